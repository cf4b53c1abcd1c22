//! What Django's session middleware does, as Django itself wrote it down (`tests/data/django`), done by the proxy: the
//! same cookie comes in, a backend says what the view did, and cookie, status, `Vary` and store are compared. Where the
//! two differ on purpose, `django_differences.rs` says so; nothing else may differ.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::django_differences::DIFFERENCES;
use crate::django_ops::UNSPOKEN;
use crate::django_stage::{Found, MAX_AGE, PLANTED, Stage, seconds, store_of};

#[test]
fn every_flow_and_scenario_goes_as_in_django_or_as_the_table_says() {
    let mut tally = Tally::default();
    let file = vectors("15_middleware_flows");
    let django_key = file["planted_key"].as_str().unwrap();
    for flow in file["vectors"].as_array().unwrap() {
        let name = flow["name"].as_str().unwrap();
        if !tally.takes(name, flow) {
            continue;
        }
        let now = flow["now"].as_i64().unwrap();
        let stage = Stage::new(&flow["settings"], now - 10);
        let mut known = Vec::new();
        if let Some(record) = store_of(&flow["store_before"]).get(django_key) {
            assert_eq!(record["data"], serde_json::from_str::<Value>(PLANTED).unwrap());
            // The file engine has no deadline beside its records.
            let otherwise = if name.contains("expired") { -1 } else { MAX_AGE };
            let id = stage.plant(now + seconds(&record["expires_in"]).unwrap_or(otherwise));
            known.push(("planted".to_owned(), django_key.to_owned(), id));
        }
        tally.judge(name, stage.differences(name, flow, now, &mut known));
    }
    assert_eq!((tally.driven, tally.partly, tally.listed), (207, 17, 53));

    for scenario in vectors("17_scenarios")["vectors"].as_array().unwrap() {
        let name = scenario["name"].as_str().unwrap();
        if !tally.takes(name, scenario) {
            continue;
        }
        let requests = scenario["requests"].as_array().unwrap();
        let stage = Stage::new(&scenario["settings"], requests[0]["at"].as_i64().unwrap());
        let mut known = Vec::new();
        for request in requests {
            tally.judge(name, stage.differences(name, request, request["at"].as_i64().unwrap(), &mut known));
        }
    }
    assert_eq!((tally.driven, tally.partly, tally.listed), (207 + 20, 17, 53 + 6));
    tally.finish();
}

#[test]
fn the_guide_gives_every_difference_and_its_reason() {
    let path = format!("{}/docs/django.md", env!("CARGO_MANIFEST_DIR"));
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let guide = words(&std::fs::read_to_string(path).unwrap());
    let (_, given) = guide.split_once("# What differs from Django, and why").unwrap();
    for difference in &DIFFERENCES {
        assert!(given.contains(&format!("* {}", words(difference.reason))), "{difference:?}");
    }
    assert_eq!(given.matches(" * ").count(), DIFFERENCES.len(), "the guide has one that no test knows");
}

/// Which flows were driven, and what was found.
#[derive(Default)]
struct Tally {
    driven: usize,
    /// Driven without an operation that no header stands for.
    partly: usize,
    listed: usize,
    names: BTreeSet<String>,
    left_out: BTreeSet<String>,
    /// Differences by their place in the table, and which of their parts.
    met: BTreeSet<(usize, usize)>,
    failures: Vec<String>,
}

impl Tally {
    /// Whether a flow is to be driven. Those of `signed_cookies` have no record to compare: they are listed, and each
    /// must be driven as another engine has it.
    fn takes(&mut self, name: &str, flow: &Value) -> bool {
        let story = name.split_once("__").unwrap().1.to_owned();
        if flow["engine"] == "signed_cookies" {
            self.listed += 1;
            self.left_out.insert(story);
            return false;
        }
        self.names.insert(story);
        let ops = flow["ops"].as_array().map(Vec::as_slice).unwrap_or_default();
        let unspoken = ops.iter().any(|op| UNSPOKEN.iter().any(|(unspoken, _)| op[0] == *unspoken));
        *(if unspoken { &mut self.partly } else { &mut self.driven }) += 1;
        true
    }

    fn judge(&mut self, name: &str, found: Vec<Found>) {
        for found in found {
            match found.place(name) {
                Some(place) => {
                    self.met.insert(place);
                }
                None => self.failures.push(format!("{name}: {found:?}")),
            }
        }
    }

    fn finish(self) {
        assert!(self.failures.is_empty(), "{} differences:\n{}", self.failures.len(), self.failures.join("\n"));
        assert!(self.left_out.is_subset(&self.names), "{:?}", self.left_out.difference(&self.names));
        for (at, row) in DIFFERENCES.iter().enumerate() {
            let missed = (0..row.parts.len()).filter(|place| !self.met.contains(&(at, *place)));
            assert_eq!(missed.count(), 0, "not met: {row:?}");
        }
    }
}

impl Found {
    /// Where in the table this stands: which difference, and which part of it.
    fn place(&self, name: &str) -> Option<(usize, usize)> {
        let story = name.split_once("__").unwrap().1;
        let named = |flow: &str| flow.strip_suffix('*').map_or(story == flow, |start| story.starts_with(start));
        let rows = DIFFERENCES.iter().enumerate().filter(|(_, row)| row.flows.iter().any(|flow| named(flow)));
        let mut parts =
            rows.flat_map(|(at, row)| row.parts.iter().enumerate().map(move |(place, part)| (at, place, part)));
        let is = |part: &str, django: &str, here: &str| {
            part == self.part && self.django.starts_with(django) && self.here.starts_with(here)
        };
        parts.find(|(_, _, (part, django, here))| is(part, django, here)).map(|(at, place, _)| (at, place))
    }
}

fn vectors(name: &str) -> Value {
    let path = format!("{}/tests/data/django/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
