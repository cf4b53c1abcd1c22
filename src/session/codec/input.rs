//! Bytes being read from front to back, by formats that say how much follows.

#[derive(Clone, Copy)]
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What was not read yet.
    pub(super) const fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    /// `None` if there are fewer; a length that lies costs nothing.
    pub(super) fn take(&mut self, length: impl TryInto<usize>) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(length.try_into().ok()?)?;
        self.0 = rest;
        Some(first)
    }

    /// What stands before the next line feed, which is read too.
    pub(super) fn line(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|&byte| byte == b'\n')?;
        let line = self.take(end)?;
        self.byte()?;
        Some(line)
    }
}
