//! Where Cloakroom does not do as Django does, on purpose.

/// A difference: in which flows, what either does, and why.
#[derive(Debug)]
pub struct Difference {
    /// Names of flows without their engine; `*` at the end stands for anything.
    pub flows: &'static [&'static str],
    /// The part of the answer, and the words that what Django does and what is done here begin with.
    pub parts: &'static [(&'static str, &'static str, &'static str)],
    /// As `docs/django.md` has it, word for word.
    pub reason: &'static str,
}

pub const DIFFERENCES: [Difference; 14] = [
    Difference {
        flows: &["*"],
        parts: &[("vary", "none", "Cookie")],
        reason: "Every answer on a route with sessions says `Vary: Cookie`: the proxy cannot know whether the backend \
                 looked at the session. Django says it only where the view did.",
    },
    Difference {
        flows: &[
            "empty_value_*",
            "every_request_unknown_read",
            "expired_read",
            "path_traversal_key",
            "reads_do_not_extend",
            "seed_walkthrough",
            "set_expiry_*",
            "short_*",
            "unknown_read",
            "uppercase_key",
        ],
        parts: &[("cookie", "removed", "none")],
        reason: "A cookie that leads to no session is left alone: it may be another application's, or a store's that \
                 is being restored. Django removes it as soon as a view looks at the session.",
    },
    Difference {
        flows: &["two_cookies_last_wins_2"],
        parts: &[("cookie", "removed", "none"), ("result", r#"["get","name"] null"#, r#"["get","name"] "ABC""#)],
        reason: "Of several cookies of the name the first counts that leads to a living session. In Django the last \
                 one counts, living or not.",
    },
    Difference {
        flows: &["quoted_cookie"],
        parts: &[("result", r#"["get","name"] "ABC""#, r#"["get","name"] null"#)],
        reason: "Quotation marks around a cookie's value are part of it: neither Django nor Cloakroom ever sets any. \
                 Django takes them off.",
    },
    Difference {
        flows: &["no_cookie_cycle_key", "no_cookie_save_explicit_empty", "no_cookie_set_expiry_only"],
        parts: &[("cookie", "new for ", "none"), ("store", "new {", "nothing")],
        reason: "Without data there is no session: an expiry, `touch` or `cycle` alone creates none, so nobody fills \
                 the store by asking. Django stores an empty one.",
    },
    Difference {
        flows: &["every_request_expired_no_access", "every_request_unknown_no_access"],
        parts: &[("cookie", "new for ", "none"), ("store", "new {}", "nothing")],
        reason: "`save_every_request` renews what lives and creates nothing. Django creates an empty session for \
                 whoever comes with a key that leads to none.",
    },
    Difference {
        flows: &["every_request_nested_mutation_saved"],
        parts: &[("store", r#"planted {"list":[1,2],"#, r#"planted {"list":[1],"#)],
        reason: "A backend's copy of the session is its own: what no header says is not stored, whatever \
                 `save_every_request` is. With `SESSION_SAVE_EVERY_REQUEST` Django stores what a view changed in \
                 place.",
    },
    Difference {
        flows: &["valid_lost_update"],
        parts: &[(
            "store",
            r#"planted {"list":[1],"mine":1,"name""#,
            r#"planted {"list":[1],"mine":1,"name":"ABC","other":1}"#,
        )],
        reason: "Two requests at once both keep their changes. In Django the one that ends later writes the whole \
                 session as it knew it.",
    },
    Difference {
        flows: &["valid_cycle_key_500"],
        parts: &[("store", "new {", "planted {")],
        reason: "`cycle` counts for nothing on a 5xx. Django moves the session and does not tell the browser: the \
                 visitor loses it.",
    },
    Difference {
        flows: &["valid_delete_then_write"],
        parts: &[
            ("status", "400", "200"),
            ("cookie", "none", "new for 1209600"),
            ("store", "nothing", r#"new {"a":1}"#),
        ],
        reason: "`delete` and `X-Session-Set` in one answer begin a new session under a new key. Django answers 400.",
    },
    Difference {
        flows: &["valid_set_expiry_none"],
        parts: &[("cookie", "none", "planted for 1209600")],
        reason: "`X-Session-Expiry` saves, whatever it says. Django's `set_expiry(None)` saves only if there was an \
                 expiry to take back.",
    },
    Difference {
        flows: &["valid_set_expiry_neg"],
        parts: &[("cookie", "planted for -10", "removed")],
        reason: "An expiry in the past ends the session and removes the cookie. Django keeps the dead record and sends \
                 the cookie with a negative `Max-Age`.",
    },
    Difference {
        flows: &["expired_read", "set_expiry_0_server_side"],
        parts: &[("cookie", "new for ", "none"), ("store", "new {}", "nothing")],
        reason: "A session that is over is replaced by nothing. Django's `file` engine makes a new, empty one when it \
                 is read.",
    },
    Difference {
        flows: &["set_expiry_300_idle"],
        parts: &[("result", r#"["get","a"] 1"#, r#"["get","a"] null"#), ("store", "session 0 {", "nothing")],
        reason: "An expiry in seconds ends a session in every engine. With Django's `file` engine, and with \
                 `signed_cookies`, it counts for the cookie alone.",
    },
];
