//! What backends say. Input: the stored data as JSON, then lines `Name: value` of a response.
#![no_main]

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use cloakroom::session::data::Data;
use cloakroom::session::json::{self, Members};
use cloakroom::session::limits::{LimitSettings, Limits};
use cloakroom::session::names;
use cloakroom::session::patch::{Change, SessionPatch};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

/// Less than serde_json takes, which has to read what comes out.
const DEPTH: usize = 100;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let stored = lines.next().unwrap_or_default();
    let stored = json::compact(stored, DEPTH).ok().and_then(|text| Data::parse(text.into()).ok());
    let stored = stored.unwrap_or_default();
    let limits = LimitSettings::default().check(64 << 10, Some(4 << 10)).expect("good settings");

    let mut headers = head(lines);
    let others = others(&headers);
    let patch = SessionPatch::take_from(&mut headers, &limits);
    assert!(!headers.keys().any(|name| names::is_ours(name.as_str())), "one of ours is left");
    assert_eq!(self::others(&headers), others, "what is not ours was touched");
    if patch.refusal.is_some() {
        assert_is_nothing_but_an_ending(&patch);
    }
    match patch.apply(&stored, &limits) {
        Ok(applied) => {
            assert_wire_form(&applied.data);
            let before = if patch.ending.is_some() { Data::empty() } else { stored };
            assert!(applied.changed || applied.data == before, "changed without saying so");
            assert_fits(&before, &applied.data, &limits);
            assert_untouched(&before, &applied.data, &patch);
        }
        Err(refusal) => {
            let refused = patch.refuse(refusal);
            assert_eq!(refused.ending, patch.ending, "a logout was lost");
            assert_is_nothing_but_an_ending(&refused);
        }
    }
});

fn head<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(line[colon + 1..].trim_ascii()));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

fn others(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let all = headers.iter().map(|(name, value)| (name.clone(), value.clone()));
    let mut others: Vec<_> = all.filter(|(name, _)| !names::is_ours(name.as_str()) && name != "trailer").collect();
    // The map promises the order of lines within a name only.
    others.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
    others
}

fn assert_is_nothing_but_an_ending(patch: &SessionPatch) {
    assert!(patch.changes.is_empty() && patch.expiry.is_none() && !patch.cycle && !patch.touch);
}

/// Printable ASCII, an object, the same to serde_json and to us.
fn assert_wire_form(data: &Data) {
    assert!(data.wire().iter().all(|byte| (0x20..=0x7e).contains(byte)));
    let tree: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(data.wire()).expect("JSON to serde_json");
    assert_eq!(tree.len(), data.members().count(), "a name stands twice");
    for member in data.members() {
        assert_eq!(tree[&*member.key()].get(), member.value);
    }
    assert!(!tree.contains_key("_session_expiry"), "the reserved key came in");
    Data::parse(Bytes::clone(data.wire())).expect("wire form");
}

fn assert_fits(before: &Data, after: &Data, limits: &Limits) {
    let most = limits.max_header_bytes.unwrap_or(usize::MAX).min(limits.max_data_bytes);
    assert!(after.len() <= most.max(before.len()), "{} bytes", after.len());
}

/// What no change names keeps its exact text and its place among the others.
fn assert_untouched(before: &Data, after: &Data, patch: &SessionPatch) {
    let mut named = HashSet::new();
    for change in &patch.changes {
        match change {
            Change::Set { key, .. } | Change::Incr { key, .. } | Change::Unset(key) => drop(named.insert(key.clone())),
            Change::Merge(object) => named.extend(Members::new(object).map(|member| member.key().into_owned())),
        }
    }
    let untouched = |data: &Data| {
        let members = data.members().filter(|member| !named.contains(&*member.key()));
        members.map(|member| format!("{}:{}", member.name, member.value)).collect::<Vec<_>>()
    };
    assert_eq!(untouched(after), untouched(before));
}
