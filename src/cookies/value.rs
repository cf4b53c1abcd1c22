//! Values of cookies between quotes, as Python's `http.cookies` and with it Django writes and reads them.

use std::borrow::Cow;

/// What stands without quotes.
fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:".contains(c)
}

/// `http.cookies._quote`: in quotes unless every character may stand without; what is beyond Latin-1 stays as it is.
pub(super) fn quote(value: &str) -> Cow<'_, str> {
    if !value.is_empty() && value.chars().all(is_legal) {
        return value.into();
    }
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            _ if is_legal(c) || " ()/<=>?@[]{}".contains(c) || u32::from(c) > 0xff => quoted.push(c),
            _ => quoted.push_str(&format!("\\{:03o}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted.into()
}

/// `http.cookies._unquote`
pub(super) fn unquote(value: &str) -> Cow<'_, str> {
    let Some(mut rest) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return value.into() };
    let mut unquoted = String::with_capacity(rest.len());
    while let Some((plain, escaped)) = rest.split_once('\\') {
        unquoted.push_str(plain);
        let octal = escaped.get(..3).filter(|digits| digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit)));
        let code = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let mut characters = escaped.chars();
        match (code, characters.next()) {
            (Some(code), _) => {
                unquoted.push(char::from(code));
                rest = escaped.get(3..).unwrap_or_default();
            }
            (None, Some(c)) => {
                unquoted.push(c);
                rest = characters.as_str();
            }
            (None, None) => {
                unquoted.push('\\');
                rest = "";
            }
        }
    }
    unquoted.push_str(rest);
    unquoted.into()
}

/// As a backend gets the value: as it stands wherever every reader agrees on where it ends, so that also those that know
/// no quotes get back what they wrote.
pub(super) fn for_backend(value: &str) -> Cow<'_, str> {
    let ends_it = |c: char| c.is_whitespace() || c.is_control() || "\";\\".contains(c);
    if value.contains(ends_it) { quote(value) } else { value.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_quotes_as_python_does() {
        for (value, expected) in [
            ("", ""),
            ("\"", "\""),
            ("\"\"", ""),
            ("abc", "abc"),
            ("\"abc\"", "abc"),
            ("\"abc", "\"abc"),
            ("a\\054b", "a\\054b"),
            ("\"a\\054b\\\"c\\\\d\"", "a,b\"c\\d"),
            ("\"\\351\\377\\400\\08\"", "éÿ40008"),
            ("\"a\\\"", "a\\"),
            ("\"值\\值\"", "值值"),
        ] {
            assert_eq!(unquote(value), expected, "{value}");
        }
    }

    #[test]
    fn a_backend_gets_quotes_only_where_it_needs_them() {
        for (value, expected) in [
            ("", ""),
            ("abc", "abc"),
            ("a=b/c,d", "a=b/c,d"),
            ("é", "é"),
            ("a b", "\"a b\""),
            ("a;b", "\"a\\073b\""),
            ("\"a\"", "\"\\\"a\\\"\""),
            ("a\tb", "\"a\\011b\""),
        ] {
            assert_eq!(for_backend(value), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value in any::<String>()) {
            let quoted = quote(&value);
            prop_assert_eq!(unquote(&quoted), value.as_str());
            prop_assert!(!quoted.contains([';', '\r', '\n', '\0', ',']));
            let bare = for_backend(&value);
            prop_assert_eq!(unquote(&bare), value.as_str());
        }

        #[test]
        fn no_text_panics(value in "[\"\\\\0-9a;é]{0,12}") {
            let _ = unquote(&value);
        }
    }
}
