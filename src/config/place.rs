//! Where things stand in the file: from a key to its place, and from a place to its key.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where the value of `key` begins, a dotted path such as `cookie.same_site` or `routes[1].path`; if the file does not
/// have it, where the nearest table above it does.
pub(super) fn offset_of(document: &DeTable<'_>, key: &str) -> usize {
    below_table(document, key).unwrap_or(0)
}

fn below_table(table: &DeTable<'_>, path: &str) -> Option<usize> {
    // A name may itself hold dots, as in [upstreams."a.b"]: of the names that fit, the longest is meant.
    let fitting = table.iter().filter_map(|(name, value)| Some((name, value, tail(path, name.get_ref())?)));
    let (_, value, rest) = fitting.max_by_key(|(name, ..)| name.get_ref().len())?;
    Some(below(value, rest))
}

fn below(value: &Spanned<DeValue<'_>>, path: &str) -> usize {
    let found = match value.get_ref() {
        DeValue::Array(array) => index(path).and_then(|(index, rest)| Some(below(array.get(index)?, rest))),
        DeValue::Table(table) => below_table(table, path.strip_prefix('.').unwrap_or(path)),
        _ => None,
    };
    found.unwrap_or(value.span().start)
}

/// What follows `name` in `path`, if `path` begins with all of it.
fn tail<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(name)?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

/// `[1].path` as 1 and `.path`.
fn index(path: &str) -> Option<(usize, &str)> {
    let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
    Some((index.parse().ok()?, rest))
}

/// An entry of the document.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Entry {
    /// Its dotted path.
    pub key: String,
    /// Where its value stands; none for a table or an array, whose text may be long.
    pub value: Option<Range<usize>>,
}

/// The entry whose key or value covers `offset` most closely.
pub(super) fn entry_at(document: &DeTable<'_>, offset: usize) -> Option<Entry> {
    let mut search = Search { offset, nearest: None };
    search.table(document, "");
    search.nearest.map(|(_, entry)| entry)
}

struct Search {
    offset: usize,
    /// With the length of the text that covers the offset.
    nearest: Option<(usize, Entry)>,
}

impl Search {
    fn table(&mut self, table: &DeTable<'_>, above: &str) {
        for (name, value) in table {
            let key = if above.is_empty() { name.get_ref().to_string() } else { format!("{above}.{}", name.get_ref()) };
            self.consider(name.span(), &key, value);
            self.value(value, &key);
        }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, key: &str) {
        self.consider(value.span(), key, value);
        match value.get_ref() {
            DeValue::Array(array) => {
                for (index, element) in array.iter().enumerate() {
                    self.value(element, &format!("{key}[{index}]"));
                }
            }
            DeValue::Table(table) => self.table(table, key),
            _ => {}
        }
    }

    fn consider(&mut self, covered: Range<usize>, key: &str, value: &Spanned<DeValue<'_>>) {
        let length = covered.len();
        // Not less than: a header is the place of its array and of its table, and the table is the nearer one.
        if covered.contains(&self.offset) && self.nearest.as_ref().is_none_or(|(nearest, _)| length <= *nearest) {
            let plain = !matches!(value.get_ref(), DeValue::Array(_) | DeValue::Table(_));
            let entry = Entry { key: key.to_owned(), value: plain.then(|| value.span()) };
            self.nearest = Some((length, entry));
        }
    }
}

/// Line and column of a byte, both from 1; columns are characters.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let offset = (0..=offset.min(text.len())).rev().find(|offset| text.is_char_boundary(*offset)).unwrap_or(0);
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# a comment
server.listen = ["127.0.0.1:1", "127.0.0.1:2"]
headers = { data = true, expose = { "é" = "X-É", user = "X-User" } }

[cookie]
name = "sessionid"
same_site = "None"

[upstreams.app]
servers = [
    "http://127.0.0.1:9000",
    "ftp://127.0.0.1",
]

[upstreams."a.b"]
servers = []

[[routes]]
path = "/"

[[routes]]
upstream = "app"

[store.django]
secret_key = "x"
"#;

    fn place_of(key: &str) -> (usize, usize) {
        let document = DeTable::parse(TEXT).unwrap();
        line_and_column(TEXT, offset_of(document.get_ref(), key))
    }

    #[test]
    fn a_key_is_found_however_it_is_written() {
        for (key, place) in [
            ("server.listen", (2, 17)),
            ("server.listen[1]", (2, 33)),
            ("headers.data", (3, 20)),
            ("headers.expose.é", (3, 43)),
            ("headers.expose.user", (3, 57)),
            ("cookie", (5, 1)),
            ("cookie.same_site", (7, 13)),
            ("upstreams.app.servers[1]", (12, 5)),
            ("upstreams.a.b.servers", (16, 11)),
            ("routes[0].path", (19, 8)),
            ("routes[1].upstream", (22, 12)),
            ("store.django.secret_key", (25, 14)),
        ] {
            assert_eq!(place_of(key), place, "{key}");
        }
    }

    #[test]
    fn an_absent_key_stands_at_the_nearest_table() {
        for (key, place) in [
            ("cookie.secure", (5, 1)),
            ("cookie.name.first", (6, 8)),
            ("routes[1].path", (21, 1)),
            ("routes[7].path", (18, 1)),
            ("routes[x].path", (18, 1)),
            ("upstreams.app.timeout", (9, 1)),
            ("headers.expose.name", (3, 35)),
            ("session.max_age", (1, 1)),
            ("cook", (1, 1)),
            ("", (1, 1)),
        ] {
            assert_eq!(place_of(key), place, "{key}");
        }
    }

    #[test]
    fn a_place_is_led_back_to_its_key() {
        let document = DeTable::parse(TEXT).unwrap();
        for (text, key, value) in [
            ("\"127.0.0.1:2\"", "server.listen[1]", Some("\"127.0.0.1:2\"")),
            ("\"X-User\"", "headers.expose.user", Some("\"X-User\"")),
            ("same_site", "cookie.same_site", Some("\"None\"")),
            ("[cookie]", "cookie", None),
            ("[[routes]]", "routes[0]", None),
            ("django", "store.django", None),
            ("\"ftp", "upstreams.app.servers[1]", Some("\"ftp://127.0.0.1\"")),
        ] {
            let entry = entry_at(document.get_ref(), TEXT.find(text).unwrap()).unwrap();
            assert_eq!(entry.key, key);
            assert_eq!(entry.value.map(|range| &TEXT[range]), value);
        }
        assert_eq!(entry_at(document.get_ref(), 0), None);
    }

    #[test]
    fn places_outside_the_text_are_its_end() {
        assert_eq!(line_and_column("", 0), (1, 1));
        assert_eq!(line_and_column("a\né", 3), (2, 1), "inside a character");
        assert_eq!(line_and_column("a\né", 99), (2, 2));
    }
}
