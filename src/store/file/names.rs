//! What the file of a session is called.

use sha2::{Digest as _, Sha256};

use super::super::Key;

/// The longest name of a record: with what is added to it while it is written, 255 bytes, which every system takes.
const LONGEST: usize = 242;
/// What stands between a record's name and eight characters more while it is being written.
const ASIDE: &str = "_out_";
/// What the name of a record begins with, after the prefix, whose key would make a name too long.
const DIGEST: char = '~';

/// Names as Django's file engine gives them, or ours: the prefix and the key, with everything but `a-z`, `0-9` and `-`
/// as `%` and two hexadecimal digits. So no name leads out of the directory, none is hidden, and none is another's on a
/// file system that takes capitals for small letters.
pub(super) enum Names {
    Django { prefix: String },
    Native { prefix: String },
}

impl Names {
    pub(super) fn native(prefix: &str) -> Self {
        Self::Native { prefix: escaped(prefix) }
    }

    fn prefix(&self) -> &str {
        match self {
            Self::Django { prefix } | Self::Native { prefix } => prefix,
        }
    }

    /// `None` if there can be no session of that name.
    pub(super) fn of(&self, key: &Key) -> Option<String> {
        let key = key.as_str();
        match self {
            Self::Django { prefix } => {
                let name = format!("{prefix}{key}");
                (is_django_key(key) && name.len() <= LONGEST).then_some(name)
            }
            Self::Native { prefix } => {
                let name = format!("{prefix}{}", escaped(key));
                let digest = || format!("{prefix}{DIGEST}{}", hex::encode(Sha256::digest(key)));
                Some(if name.len() <= LONGEST { name } else { digest() })
            }
        }
    }

    /// The key of a record by its name; `None` for other files, and for a key that is not in the name.
    pub(super) fn key(&self, name: &str) -> Option<Key> {
        let rest = name.strip_prefix(self.prefix())?;
        let key = match self {
            Self::Django { .. } => Key::new(rest),
            Self::Native { .. } => Key::new(unescaped(rest)?),
        };
        self.of(&key).filter(|own| own == name).map(|_| key)
    }

    pub(super) fn is_record(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(self.prefix()) else { return false };
        match self {
            Self::Django { .. } => is_django_key(rest),
            Self::Native { .. } => rest.bytes().all(|byte| is_plain(byte) || matches!(byte, b'%' | b'~')),
        }
    }

    /// Whether it is what writing a record left behind, ours or Django's.
    pub(super) fn is_aside(&self, name: &str) -> bool {
        name.rsplit_once(ASIDE).is_some_and(|(record, random)| {
            self.is_record(record) && random.len() == 8 && random.bytes().all(|byte| RANDOM.contains(&byte))
        })
    }

    /// A name to write the record under before it gets its own.
    pub(super) fn aside(name: &str) -> String {
        let random = (0..8).map(|_| rand::random_range(0..RANDOM.len()));
        let random: String = random.filter_map(|place| RANDOM.get(place)).map(|byte| char::from(*byte)).collect();
        format!("{name}{ASIDE}{random}")
    }
}

const RANDOM: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789_";

/// Django's `VALID_KEY_CHARS`.
fn is_django_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'))
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')
}

/// How a text is written in our names.
pub(in crate::store) fn escaped(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut name, byte| {
        if is_plain(byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
        name
    })
}

fn unescaped(name: &str) -> Option<String> {
    if name.starts_with(DIGEST) {
        return None;
    }
    percent_encoding::percent_decode_str(name).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn django() -> Names {
        Names::Django { prefix: "sessionid".to_owned() }
    }

    #[test]
    fn ours_say_what_they_are() {
        let names = Names::native("session:");
        assert_eq!(names.of(&Key::new("0a1b")).unwrap(), "session%3a0a1b");
        assert_eq!(names.of(&Key::new("../A")).unwrap(), "session%3a%2e%2e%2f%41");
        let long = names.of(&Key::new("k".repeat(2_000))).unwrap();
        assert!(long.starts_with("session%3a~") && names.is_record(&long), "{long}");
        assert!(names.key(&long).is_none());
    }

    #[test]
    fn djangos_have_djangos_keys_only() {
        let names = django();
        assert_eq!(names.of(&Key::new("abc123")).unwrap(), "sessionidabc123");
        for key in ["", "../../etc/passwd", "UPPERCASEKEY", "abcdefgh_out_x", "abcdefgh_out_abcdefgh", "a b", "ä"] {
            assert_eq!(names.of(&Key::new(key)), None, "{key}");
            assert!(!names.is_record(&format!("sessionid{key}")), "{key}");
        }
        assert_eq!(names.of(&Key::new("k".repeat(250))), None);
    }

    #[test]
    fn what_is_written_aside_is_no_record_and_is_known() {
        for (names, record) in [(django(), "sessionidabc"), (Names::native("s:"), "s%3aabc")] {
            let aside = Names::aside(record);
            assert!(names.is_aside(&aside) && !names.is_record(&aside), "{aside}");
            assert_eq!(names.key(&aside), None);
            for other in ["", "_out_abcdefgh", "otherabc_out_abcdefgh", "sessionidabc_out_ABCDEFGH", "s%3aabc_out_abc"]
            {
                assert!(!names.is_aside(other), "{other}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_key_comes_back_from_its_name(key in "\\PC{0,40}") {
            let names = Names::native("session:");
            let name = names.of(&Key::new(key.clone())).unwrap();
            prop_assert!(names.is_record(&name) && !names.is_aside(&name) && !name.contains(['/', '\0', '.', '_']));
            if !name.contains(DIGEST) {
                prop_assert_eq!(names.key(&name), Some(Key::new(key)));
            }
        }

        #[test]
        fn no_name_makes_it_panic(name in "\\PC*") {
            for names in [django(), Names::native("")] {
                let _ = (names.key(&name), names.is_record(&name), names.is_aside(&name));
            }
        }
    }
}
