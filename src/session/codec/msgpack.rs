//! Our own format in MessagePack, for programs that read it faster or better than text.
//!
//! An array of two maps: the head of [`native`], under the same names, and the data. In the data numbers
//! and strings are MessagePack's where these tell the JSON text, as `7`, `1.5` and `"\u00e9"` do. Of others (`1.10`,
//! `1e5`, `-0`, `"\/"`) the text itself stands there, as extension 1: what nobody touches comes back as it was written.

use bytes::Bytes;
use rmp::encode::{write_array_len, write_ext_meta, write_f64, write_sint, write_str, write_uint};

use super::DecodeError;
use super::input::Input;
use super::native;
use super::numbers::{float_text, is_integer};
use super::pack;
use super::tokens::Token;
use crate::session::data::Data;
use crate::session::{Session, json};

/// The extension that has a JSON text.
const EXACT: i8 = 1;

/// Writes a session as a record. Times keep their milliseconds, durations lose what is below one.
pub fn encode(session: &Session) -> Bytes {
    let mut record = Vec::new();
    // Memory takes all that is written into it: there are no errors to look at.
    drop(write_array_len(&mut record, 2));
    let head = native::Head::of(session).text();
    pack::write(&mut record, str::from_utf8(&head).unwrap_or_default(), scalar);
    pack::write(&mut record, session.data.as_str(), scalar);
    record.into()
}

fn scalar(out: &mut Vec<u8>, token: Token<'_>) {
    match token {
        Token::Number(text) if is_integer(text) => {
            if let Some(number) = text.parse().ok().filter(|number: &i64| number.to_string() == text) {
                drop(write_sint(out, number));
            } else if let Some(number) = text.parse().ok().filter(|number: &u64| number.to_string() == text) {
                drop(write_uint(out, number));
            } else {
                exact(out, text);
            }
        }
        Token::Number(text) => match text.parse() {
            Ok(number) if float_text(number).as_deref() == Some(text) => drop(write_f64(out, number)),
            _ => exact(out, text),
        },
        Token::String(text) => match json::decode(text) {
            Some(string) if json::encode(&string) == text => drop(write_str(out, &string)),
            _ => exact(out, text),
        },
        _ => {}
    }
}

fn exact(out: &mut Vec<u8>, text: &str) {
    drop(write_ext_meta(out, u32::try_from(text.len()).unwrap_or(u32::MAX), EXACT));
    out.extend_from_slice(text.as_bytes());
}

/// Reads a record.
///
/// # Errors
/// For anything that [`encode`] does not write.
pub fn decode(record: &Bytes) -> Result<Session, DecodeError> {
    let mut input = Input::new(record);
    let Some(pack::Head::Array(length)) = pack::head(&mut input) else { return Err(DecodeError::Malformed) };
    let mut head = String::new();
    pack::read(&mut input, &mut head, |_, _| None).ok_or(DecodeError::Malformed)?;
    let head = native::Head::read(head.as_bytes())?;
    let mut data = String::new();
    pack::read(&mut input, &mut data, written_text).ok_or(DecodeError::Malformed)?;
    if length != 2 || !input.rest().is_empty() {
        return Err(DecodeError::Malformed);
    }
    head.with(Data::parse(data.into()).map_err(DecodeError::Data)?)
}

/// Nothing but one number or string in wire form, lest it brings commas and brackets along.
fn written_text(extension: i8, text: &[u8]) -> Option<&str> {
    let text = str::from_utf8(text).ok().filter(|text| text.starts_with(['-', '"']) || is_number(text))?;
    (extension == EXACT && json::compact(text.as_bytes(), 0).is_ok_and(|wire| wire == text)).then_some(text)
}

fn is_number(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;
    use crate::session::codec::native::tests::any_session;
    use crate::session::expiry::Expiry;

    fn session(data: &'static str) -> Session {
        Session {
            data: Data::parse(Bytes::from_static(data.as_bytes())).unwrap(),
            created_at: Timestamp::from_millis(1),
            saved_at: Timestamp::from_millis(-2),
            expiry: Expiry::BrowserClose,
            retired: None,
            predecessors: Vec::new(),
        }
    }

    const HEAD: &[u8] = b"\x92\x84\xa1v\x01\xa7created\x01\xa5saved\xfe\xa6expiry\xadbrowser_close";

    fn record(data: &[u8]) -> Bytes {
        [HEAD, data].concat().into()
    }

    #[test]
    fn is_messagepack_that_says_what_json_says() {
        let record = record(b"\x82\xa1a\x93\x07\xcb\x3f\xf8\0\0\0\0\0\0\xc0\xa3b\xc3\xa9\x82\xa0\xc3\xa1/\xc2");
        assert_eq!(encode(&session(r#"{"a":[7,1.5,null],"b\u00e9":{"":true,"/":false}}"#)), record);
        assert_eq!(decode(&record).unwrap(), session(r#"{"a":[7,1.5,null],"b\u00e9":{"":true,"/":false}}"#));
    }

    #[test]
    fn every_text_comes_back_to_the_letter() {
        for text in [
            "1.10",
            "1e5",
            "1E+5",
            "1.0",
            "-0",
            "-0.0",
            "0",
            "-1",
            "1e400",
            "1e-400",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775809",
            "123456789012345678901234567890123456789012345678901234567890",
            "100000000000000000.0",
            "1e+16",
            "5e-324",
            r#""\/""#,
            r#""\n""#,
            r#""\u000a\u00FC""#,
            r#""\ud83d\ude00 \\ \"""#,
            r#"{"\/":"\/","\u0041":[[],{},[{}]]}"#,
        ] {
            let data = format!("{{\"a\":{text}}}");
            let session = session(data.leak());
            assert_eq!(decode(&encode(&session)).unwrap(), session, "{text}");
        }
    }

    #[test]
    fn f7_what_we_did_not_write_is_refused() {
        for data in [
            b"".as_slice(),
            b"\x80\x80",
            b"\x90",
            b"\x01",
            b"\x81\xa1a",
            b"\x81\x01\x01",
            b"\x81\xc0\x01",
            b"\x82\xa1a\x01\xa1a\x01",
            b"\x81\xa1a\xc1",
            b"\x81\xa1a\xa1\xff",
            b"\x81\xa1a\xc4\x01a",
            b"\x81\xa1a\xcb\x7f\xf8\0\0\0\0\0\0",
            b"\x81\xa1a\xdd\xff\xff\xff\xff",
            b"\x81\xa1a\xd4\x02\x31",
            b"\x81\xa1a\xd4\x01n",
            b"\x81\xa1a\xd5\x01[]",
            b"\x81\xa1a\xd5\x01 1",
            b"\x81\xd4\x01\x31\x01",
            b"\x81\xa1a\xc7\x07\x011,\"b\":2",
        ] {
            assert!(decode(&record(data)).is_err(), "{data:?}");
        }
        let deep = [b"\x81\xa1a".as_slice(), &[0x91; 128], b"\x90"].concat();
        assert!(matches!(decode(&record(&deep)), Err(DecodeError::Data(json::JsonError::TooDeep))));
        let no_head = [b"\x92\x80\x80".as_slice(), b"\x80", b"\x92\x81\xa1v\xcb\x3f\xf0\0\0\0\0\0\0\x80"];
        for record in no_head {
            assert!(matches!(decode(&Bytes::from_static(record)), Err(DecodeError::Malformed)), "{record:?}");
        }
        for newer in [b"\x92\x82\xa1v\x02\xa3new\x90\xc1".as_slice(), b"\x91\x81\xa1v\x02"] {
            assert!(matches!(decode(&Bytes::from_static(newer)), Err(DecodeError::Version(2))), "{newer:?}");
        }
    }

    proptest! {
        #[test]
        fn every_session_comes_back(session in any_session()) {
            prop_assert_eq!(&decode(&encode(&session)).unwrap(), &session);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), session in any_session(), at in any::<prop::sample::Index>()) {
            let _ = decode(&bytes.into());
            let mut record = encode(&session).to_vec();
            let at = at.index(record.len());
            record[at] = record[at].wrapping_add(1);
            let _ = decode(&record.clone().into());
            record.truncate(at);
            let _ = decode(&record.into());
        }
    }
}
