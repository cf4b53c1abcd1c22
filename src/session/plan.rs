//! What a response means for the session: the whole decision, as a function of data.

use super::data::Data;
use super::expiry::Expiry;
use super::patch::{Ending, Refusal, SessionPatch};
use super::settings::SessionRules;
use super::{Predecessor, Session};
use crate::clock::Timestamp;

/// What is to be done at the store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Plan {
    /// A session where there was none.
    Create(Session),
    /// The same session under a new key; the old record retires.
    Cycle(Session),
    /// The record goes; `then` starts a new session under a new key, with no link to the old one.
    End { forget_cookie: bool, then: Option<Session> },
    /// The session stays as it is; an idle deadline may move.
    Keep,
    /// The record is replaced under its key.
    Save(Session),
}

/// Decides what `patch` does to `current`, the live session if there is one.
///
/// `renew` saves a session that lives although nothing else is asked for (Django's `SESSION_SAVE_EVERY_REQUEST`).
///
/// A refused update changes nothing, but its ending is obeyed: a logout is never lost. The refusal comes back beside
/// the plan, for the log.
pub fn plan(
    current: Option<&Session>,
    patch: &SessionPatch,
    renew: bool,
    rules: &SessionRules,
    now: Timestamp,
) -> (Plan, Option<Refusal>) {
    let before = current.map_or_else(Data::empty, |session| session.data.clone());
    let (applied, refusal) = match (&patch.refusal, patch.apply(&before, &rules.limits)) {
        (None, Ok(applied)) => (Some(applied), None),
        (None, Err(refusal)) => (None, Some(refusal)),
        (Some(refusal), _) => (None, Some(*refusal)),
    };
    let accepted = applied.is_some();
    let changed = applied.as_ref().is_some_and(|applied| applied.changed);
    let cleared = patch.ending == Some(Ending::Clear);
    let data = match applied {
        Some(applied) => applied.data,
        None if cleared => Data::empty(),
        None => before,
    };
    let expiry = patch.expiry.filter(|_| accepted);

    if let Some(Ending::Delete | Ending::Flush) = patch.ending {
        let then = (changed && !data.is_empty()).then(|| fresh(data, expiry, now));
        let then = then.filter(|session| session.deadline(rules, now) > now);
        return (Plan::End { forget_cookie: patch.ending == Some(Ending::Flush), then }, refusal);
    }
    let Some(session) = current else {
        // Nothing comes into being for a visitor for whom nothing was stored.
        let session = (changed && !data.is_empty()).then(|| fresh(data, expiry, now));
        let session = session.filter(|session| session.deadline(rules, now) > now);
        return (session.map_or(Plan::Keep, Plan::Create), refusal);
    };

    let cycle = accepted && (patch.cycle || names_change(session, &data, &rules.cycle_on_change));
    let renew = renew || accepted && (patch.touch || expiry.is_some());
    if !(changed || cleared || cycle || renew) {
        return (Plan::Keep, refusal);
    }
    let kept = if cleared { Expiry::Default } else { session.expiry };
    let next = Session {
        data,
        created_at: session.created_at,
        saved_at: now,
        expiry: expiry.unwrap_or(kept),
        retired: None,
        predecessors: in_grace(&session.predecessors, now),
    };
    let plan = if next.deadline(rules, now) <= now {
        // An instant that has passed: the backend asked for the end of the session.
        Plan::End { forget_cookie: true, then: None }
    } else if cycle {
        Plan::Cycle(next)
    } else {
        Plan::Save(next)
    };
    (plan, refusal)
}

fn fresh(data: Data, expiry: Option<Expiry>, now: Timestamp) -> Session {
    Session {
        data,
        created_at: now,
        saved_at: now,
        expiry: expiry.unwrap_or_default(),
        retired: None,
        predecessors: Vec::new(),
    }
}

fn in_grace(predecessors: &[Predecessor], now: Timestamp) -> Vec<Predecessor> {
    predecessors.iter().filter(|predecessor| predecessor.until > now).cloned().collect()
}

/// Whether one of `names` appeared in the data or has another value now.
fn names_change(before: &Session, after: &Data, names: &[String]) -> bool {
    names.iter().any(|name| after.value(name).is_some_and(|value| before.data.value(name) != Some(value)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use hyper::HeaderMap;
    use hyper::header::{HeaderName, HeaderValue};

    use super::super::Retired;
    use super::super::inject::HeaderSettings;
    use super::super::settings::SessionSettings;
    use super::*;
    use crate::store::Key;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn rules(toml: &str) -> SessionRules {
        toml::from_str::<SessionSettings>(toml).unwrap().check(&HeaderSettings::default()).unwrap()
    }

    fn session(data: &'static str) -> Session {
        let data = Data::parse(Bytes::from_static(data.as_bytes())).unwrap();
        let before = NOW.minus(Duration::from_secs(60));
        Session { created_at: before, saved_at: before, ..fresh(data, None, before) }
    }

    /// The plan for a response with these lines, such as `Set: a=1`.
    fn planned(current: Option<&Session>, lines: &[&str], toml: &str) -> (Plan, Option<Refusal>) {
        let rules = rules(toml);
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name: HeaderName = format!("x-session-{name}").parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        plan(current, &SessionPatch::take_from(&mut headers, &rules.limits), rules.save_every_request, &rules, NOW)
    }

    fn word(plan: &Plan) -> String {
        match plan {
            Plan::Create(session) => format!("create {}", session.data.as_str()),
            Plan::Cycle(session) => format!("cycle {}", session.data.as_str()),
            Plan::End { forget_cookie, then } => {
                let then = then.as_ref().map_or_else(String::new, |session| format!(" then {}", session.data.as_str()));
                format!("{}{then}", if *forget_cookie { "flush" } else { "delete" })
            }
            Plan::Keep => "keep".to_owned(),
            Plan::Save(session) => format!("save {}", session.data.as_str()),
        }
    }

    #[test]
    fn what_a_response_means() {
        let live = session(r#"{"u":1,"s":"x"}"#);
        let live = Some(&live);
        let cases: [(Option<&Session>, &[&str], &str); 29] = [
            // Nothing comes into being for a visitor for whom nothing was stored.
            (None, &[], "keep"),
            (None, &["action: flush"], "flush"),
            (None, &["action: delete"], "delete"),
            (None, &["action: clear"], "keep"),
            (None, &["action: cycle, touch"], "keep"),
            (None, &["unset: a"], "keep"),
            (None, &["expiry: 300"], "keep"),
            (None, &["patch: {\"a\":null}"], "keep"),
            (None, &["set: a=1", "unset: a"], "keep"),
            (None, &["set: a=%zz"], "keep"),
            (None, &["set: a=1"], r#"create {"a":"1"}"#),
            (None, &["set: a=1", "action: cycle"], r#"create {"a":"1"}"#),
            (None, &["set: a=1", "action: flush"], r#"flush then {"a":"1"}"#),
            // A live session.
            (live, &[], "keep"),
            (live, &["set: s=x"], r#"save {"u":1,"s":"x"}"#),
            (live, &["unset: missing"], "keep"),
            (live, &["unset: u, s"], "save {}"),
            (live, &["action: clear"], "save {}"),
            (live, &["action: clear", "set: a=1"], r#"save {"a":"1"}"#),
            (live, &["action: touch"], r#"save {"u":1,"s":"x"}"#),
            (live, &["expiry: 300"], r#"save {"u":1,"s":"x"}"#),
            (live, &["expiry: Thu, 01 Jan 1970 00:00:00 GMT"], "flush"),
            (live, &["action: cycle"], r#"cycle {"u":1,"s":"x"}"#),
            (live, &["action: delete"], "delete"),
            (live, &["action: delete, clear, flush", "set: a=1"], r#"flush then {"a":"1"}"#),
            (live, &["action: delete", "set: a=1"], r#"delete then {"a":"1"}"#),
            // A refused update: nothing but the ending.
            (live, &["incr: s=1", "action: cycle, touch", "expiry: 300"], "keep"),
            (live, &["incr: u=x", "action: clear"], "save {}"),
            (live, &["set: a=%zz&b=1", "action: flush"], "flush"),
        ];
        for (current, lines, expected) in cases {
            assert_eq!(word(&planned(current, lines, "").0), expected, "{lines:?}");
        }
    }

    /// Who asks for nothing need not ask what to do.
    #[test]
    fn for_nothing_nothing_is_done_whatever_there_is() {
        let plain = session(r#"{"u":1}"#);
        let past = Timestamp::from_millis(0);
        let retired = Some(Retired { until: past, successor: Key::new("next") });
        let predecessors = vec![Predecessor { key: Key::new("gone"), until: past }];
        let sessions = [
            Session { retired, ..plain.clone() },
            Session { predecessors, ..plain.clone() },
            Session { expiry: Expiry::At(past), ..plain.clone() },
            Session { data: Data::empty(), ..plain },
        ];
        for session in sessions {
            assert_eq!(planned(Some(&session), &[], "cycle_on_change = ['u']"), (Plan::Keep, None), "{session:?}");
        }
    }

    #[test]
    fn a_refusal_comes_back_whether_the_lines_or_the_data_caused_it() {
        let live = session(r#"{"s":"x"}"#);
        for lines in [&["set: a=%zz"][..], &["incr: s=1"]] {
            assert!(planned(Some(&live), lines, "").1.is_some(), "{lines:?}");
        }
        assert_eq!(planned(Some(&live), &["set: a=1"], "").1, None);
    }

    #[test]
    fn i5_a_key_that_appears_or_changes_cycles_and_one_that_goes_does_not() {
        let toml = "cycle_on_change = ['u']";
        let live = session(r#"{"u":1}"#);
        let anonymous = session(r#"{"n":1}"#);
        let cases: [(&Session, &[&str], &str); 5] = [
            (&anonymous, &["set: u=1"], r#"cycle {"n":1,"u":"1"}"#),
            (&live, &["set: {\"u\":2}"], r#"cycle {"u":2}"#),
            (&live, &["set: {\"u\":1}"], r#"save {"u":1}"#),
            (&live, &["unset: u"], "save {}"),
            (&live, &["set: n=1"], r#"save {"u":1,"n":"1"}"#),
        ];
        for (current, lines, expected) in cases {
            assert_eq!(word(&planned(Some(current), lines, toml).0), expected, "{lines:?}");
        }
    }

    #[test]
    fn saving_every_request_renews_what_lives_and_creates_nothing() {
        let live = session(r#"{"u":1}"#);
        let toml = "save_every_request = true";
        assert_eq!(word(&planned(None, &[], toml).0), "keep");
        let (Plan::Save(saved), _) = planned(Some(&live), &[], toml) else { panic!("not saved") };
        assert_eq!((saved.saved_at, saved.created_at), (NOW, live.created_at));
        // A refused update is as if the backend had not asked for it.
        assert_eq!(word(&planned(Some(&live), &["set: a=%zz"], toml).0), r#"save {"u":1}"#);
    }

    #[test]
    fn a_custom_expiry_stays_until_it_is_changed_or_cleared() {
        let mut live = session(r#"{"u":1}"#);
        live.expiry = Expiry::BrowserClose;
        let expiry = |lines: &[&str]| match planned(Some(&live), lines, "").0 {
            Plan::Save(session) | Plan::Cycle(session) => session.expiry,
            other => panic!("{other:?}"),
        };
        assert_eq!(expiry(&["set: a=1"]), Expiry::BrowserClose);
        assert_eq!(expiry(&["action: cycle"]), Expiry::BrowserClose);
        assert_eq!(expiry(&["expiry: default"]), Expiry::Default);
        assert_eq!(expiry(&["action: clear"]), Expiry::Default);
        assert_eq!(expiry(&["action: clear", "expiry: 60"]), Expiry::After(Duration::from_secs(60)));
    }

    #[test]
    fn a_saved_session_keeps_only_the_predecessors_in_grace() {
        let mut live = session(r#"{"u":1}"#);
        let kept = Predecessor { key: Key::new("kept"), until: NOW.plus(Duration::from_millis(1)) };
        live.predecessors = vec![Predecessor { key: Key::new("gone"), until: NOW }, kept.clone()];
        let (Plan::Save(saved), _) = planned(Some(&live), &["set: a=1"], "") else { panic!("not saved") };
        assert_eq!(saved.predecessors, [kept]);
    }
}
