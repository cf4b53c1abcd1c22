//! Integers of any size between decimal digits and two's complement, lowest byte first.

use super::op;

/// Longer ones Python neither prints nor reads (`sys.int_info.default_max_str_digits`), so they are no JSON to it.
const MAX_DIGITS: usize = 4300;
/// No shorter integer of more bytes has so few digits.
const MAX_BYTES: usize = 1786;

/// As many decimal digits as a limb of 32 bits is sure to hold.
const CHUNK: usize = 9;
const CHUNK_BASE: u64 = 1_000_000_000;

/// Digits, perhaps after a sign, as the operation that makes this integer.
pub(super) fn write(out: &mut Vec<u8>, digits: &str) {
    if let Ok(small) = digits.parse::<i32>() {
        out.push(op::BININT);
        out.extend_from_slice(&small.to_le_bytes());
    } else {
        write_bytes(out, &complement(digits));
    }
}

pub(super) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    if let Ok(length) = u8::try_from(bytes.len()) {
        out.extend_from_slice(&[op::LONG1, length]);
    } else {
        out.push(op::LONG4);
        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    }
    out.extend_from_slice(bytes);
}

/// The digits of an integer that was written as text; `None` for what is no decimal number or has too many.
pub(super) fn digits(text: &[u8]) -> Option<String> {
    let text = str::from_utf8(text).ok()?;
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let significant = digits.trim_start_matches('0');
    let decimal = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !decimal || digits.len() > MAX_DIGITS {
        return None;
    }
    Some(if significant.is_empty() { "0".to_owned() } else { format!("{sign}{significant}") })
}

/// The digits of an integer in two's complement; `None` if there are too many.
pub(super) fn decimal(bytes: &[u8]) -> Option<String> {
    if bytes.len() > MAX_BYTES {
        return None;
    }
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let limbs = bytes.chunks(4).map(|chunk| {
        let mut limb = [fill; 4];
        limb.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        u32::from_le_bytes(limb)
    });
    let mut limbs: Vec<u32> = limbs.collect();
    if negative {
        negate(&mut limbs);
    }
    let mut chunks = Vec::new();
    while limbs.pop_if(|last| *last == 0).is_some() {}
    while !limbs.is_empty() {
        chunks.push(divide(&mut limbs));
        while limbs.pop_if(|last| *last == 0).is_some() {}
    }
    let mut text = String::from(if negative { "-" } else { "" });
    text += &chunks.pop().unwrap_or_default().to_string();
    for chunk in chunks.iter().rev() {
        text += &format!("{chunk:09}");
    }
    (text.len() - usize::from(negative) <= MAX_DIGITS).then_some(text)
}

/// Leaves the quotient and returns the remainder.
fn divide(limbs: &mut [u32]) -> u64 {
    limbs.iter_mut().rev().fold(0, |remainder, limb| {
        let value = remainder << 32 | u64::from(*limb);
        *limb = low(value / CHUNK_BASE);
        value % CHUNK_BASE
    })
}

fn complement(digits: &str) -> Vec<u8> {
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits),
    };
    let mut limbs: Vec<u32> = Vec::new();
    let (first, rest) = digits.as_bytes().split_at(digits.len() % CHUNK);
    for chunk in std::iter::once(first).chain(rest.chunks(CHUNK)) {
        let value = chunk.iter().fold(0, |value, digit| value * 10 + u64::from(digit.wrapping_sub(b'0')));
        let mut carry = value;
        for limb in &mut limbs {
            carry += u64::from(*limb) * CHUNK_BASE;
            *limb = low(carry);
            carry >>= 32;
        }
        limbs.push(low(carry));
    }
    // Room for the sign.
    limbs.push(0);
    if negative {
        negate(&mut limbs);
    }
    let mut bytes: Vec<u8> = limbs.iter().flat_map(|limb| limb.to_le_bytes()).collect();
    while let [.., before, last] = bytes.as_slice() {
        // The last byte says nothing if it repeats the sign of the one before.
        if !matches!((*last, before & 0x80), (0, 0) | (0xff, 0x80)) {
            break;
        }
        bytes.pop();
    }
    bytes
}

fn negate(limbs: &mut [u32]) {
    let mut carry = true;
    for limb in limbs {
        (*limb, carry) = (!*limb).overflowing_add(carry.into());
    }
}

fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_decimal_digits_are_taken() {
        for (text, expected) in [("007", "7"), ("-0", "0"), ("+5", "5"), ("-12", "-12"), ("0", "0")] {
            assert_eq!(digits(text.as_bytes()).as_deref(), Some(expected));
        }
        for text in ["", "-", "--1", "1_0", "0x1f", " 1", "1.0", "\u{ff11}", &"1".repeat(4301)] {
            assert_eq!(digits(text.as_bytes()), None, "{text}");
        }
        assert_eq!(decimal(&[]).as_deref(), Some("0"));
    }

    #[test]
    fn f7_what_python_does_not_print_is_not_printed_here() {
        let longest = "9".repeat(4300);
        assert_eq!(decimal(&complement(&longest)), Some(longest.clone()));
        assert_eq!(decimal(&complement(&format!("-{longest}"))), Some(format!("-{longest}")));
        assert_eq!(decimal(&complement(&format!("1{}", "0".repeat(4300)))), None);
        assert_eq!(decimal(&vec![1; 1 << 20]), None);
    }

    proptest! {
        #[test]
        fn agrees_with_the_machine(number in any::<i128>(), shift in 0..127_u32) {
            let number = number >> shift;
            let bytes = complement(&number.to_string());
            let mut expected = number.to_le_bytes().to_vec();
            while expected.len() > bytes.len() {
                prop_assert!(matches!(expected.pop(), Some(0 | 0xff)));
            }
            prop_assert_eq!(&bytes, &expected);
            prop_assert_eq!(decimal(&bytes).unwrap(), number.to_string());
        }

        #[test]
        fn digits_come_back(text in "-?[1-9][0-9]{0,400}") {
            prop_assert_eq!(decimal(&complement(&text)).unwrap(), text);
        }
    }
}
