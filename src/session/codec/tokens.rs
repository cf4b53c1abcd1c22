//! JSON in wire form piece by piece, for formats that say the same in other words.

/// A piece of JSON. Names of members are strings among others; commas and colons say nothing that the order does not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Token<'a> {
    Array,
    /// Of the array or object that began last.
    End,
    False,
    Null,
    Number(&'a str),
    Object,
    /// Quotes included.
    String(&'a str),
    True,
}

/// The pieces of one value. Of text that is not in wire form it gives others, or none.
pub(super) struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    pub(super) const fn new(value: &'a str) -> Self {
        Self(value)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let text = self.0.trim_start_matches([',', ':']);
        let (token, length) = match text.bytes().next()? {
            b'[' => (Token::Array, 1),
            b'{' => (Token::Object, 1),
            b']' | b'}' => (Token::End, 1),
            b'"' => {
                let length = string_length(text)?;
                (Token::String(text.get(..length)?), length)
            }
            b'f' => (Token::False, "false".len()),
            b'n' => (Token::Null, "null".len()),
            b't' => (Token::True, "true".len()),
            _ => {
                let length = text.find([',', ']', '}']).unwrap_or(text.len());
                (Token::Number(text.get(..length)?), length)
            }
        };
        self.0 = text.get(length..)?;
        Some(token)
    }
}

fn string_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_in_their_order() {
        let text = r#"{"a\"]":[1.5e3,-0,{}],"b":[[],null,true,false,"\\"]}"#;
        let pieces: Vec<_> = Tokens::new(text).collect();
        let expected = [
            Token::Object,
            Token::String(r#""a\"]""#),
            Token::Array,
            Token::Number("1.5e3"),
            Token::Number("-0"),
            Token::Object,
            Token::End,
            Token::End,
            Token::String("\"b\""),
            Token::Array,
            Token::Array,
            Token::End,
            Token::Null,
            Token::True,
            Token::False,
            Token::String(r#""\\""#),
            Token::End,
            Token::End,
        ];
        assert_eq!(pieces, expected);
        assert_eq!(Tokens::new("12").collect::<Vec<_>>(), [Token::Number("12")]);
    }

    #[test]
    fn what_is_no_json_ends() {
        for text in ["\"a", "\"\\", "[\"", "nul", "é,,,", ""] {
            assert!(Tokens::new(text).count() < 3, "{text}");
        }
    }
}
