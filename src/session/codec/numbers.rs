//! Numbers of JSON as programs tell them apart.

/// Neither fraction nor exponent: what most readers, Python's among them, take for an integer of any size.
pub(super) fn is_integer(text: &str) -> bool {
    !text.contains(['.', 'e', 'E'])
}

/// The shortest text that is read as this very number and as no integer, written as Python writes it; `None` for what
/// JSON has no words for.
pub(super) fn float_text(number: f64) -> Option<String> {
    if !number.is_finite() {
        return None;
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    if !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return Some(format!("{digits}e{sign}{:02}", exponent.unsigned_abs()));
    }
    let plain = number.to_string();
    Some(if plain.contains('.') { plain } else { plain + ".0" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (number, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e22, "1e+22"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-1.5e-7, "-1.5e-07"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
        ] {
            assert_eq!(float_text(number).as_deref(), Some(text));
        }
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(float_text(number), None);
        }
    }

    proptest! {
        #[test]
        fn floats_come_back(number in any::<f64>()) {
            if let Some(text) = float_text(number) {
                prop_assert!(!is_integer(&text));
                prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits());
            }
        }
    }
}
