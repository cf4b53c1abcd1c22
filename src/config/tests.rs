use super::*;

const UPSTREAM: &str = "[upstreams.app]\nservers = ['http://127.0.0.1:9000']\n";

fn faults(text: &str) -> String {
    Config::parse(text, "cloakroom.toml").err().unwrap().to_string()
}

/// The message for `text` after a working upstream.
fn fault(text: &str) -> String {
    let faults = faults(&format!("{UPSTREAM}{text}"));
    assert!(!faults.contains('\n'), "more than one fault:\n{faults}");
    faults
}

#[test]
fn one_upstream_is_enough() {
    let config = Config::parse(UPSTREAM, "cloakroom.toml").unwrap();
    assert_eq!(config.routes.find("any.host", "/any/path").unwrap().settings.upstream, "app");
    assert!(config.admin.is_none());
}

#[test]
fn impossible_settings_are_named_with_their_place() {
    for (text, message) in [
        (
            "\n[cookie]\nsame_site = \"None\"",
            "cloakroom.toml:5:13: cookie.same_site = \"None\": needs cookie.secure = true",
        ),
        (
            "[[routes]]\nupstream = 'app'\n[[routes]]\npath = 'shop'\nupstream = 'app'",
            "cloakroom.toml:6:8: routes[1].path = \"shop\": must start with / and have no dot segments, \
             query or fragment",
        ),
        (
            "[[routes]]\nupstream = 'ap'",
            "cloakroom.toml:4:12: routes[0].upstream = \"ap\": there is no such upstream; did you mean app?",
        ),
        (
            "[[routes]]\nupstream = 'legacy'",
            "cloakroom.toml:4:12: routes[0].upstream = \"legacy\": there is no such upstream; expected one of app",
        ),
        (
            "[admin]\nlisten = '127.0.0.1:8080'",
            "cloakroom.toml:4:10: admin.listen = \"127.0.0.1:8080\": server.listen has 127.0.0.1:8080 already; \
             choose another port",
        ),
        (
            "[headers]\nid = true",
            "cloakroom.toml:4:6: headers.id = true: needs headers.id_key, the same on every proxy",
        ),
    ] {
        assert_eq!(fault(text), message);
    }
}

#[test]
fn every_part_reports_in_the_order_of_the_file() {
    let text = format!("{UPSTREAM}[session]\nmax_age = 0\n[cookie]\nsame_site = 'None'\n[server]\nlisten = []");
    let faults = faults(&text);
    let places: Vec<&str> = faults.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(places, ["cloakroom.toml:4:11:", "cloakroom.toml:6:13:", "cloakroom.toml:8:10:"], "{faults}");
}

#[test]
fn unknown_keys_are_refused_with_what_was_perhaps_meant() {
    for (text, message) in [
        (
            "[cookie]\nsamesite = 'Lax'",
            "cloakroom.toml:4:1: cookie.samesite: there is no such key; did you mean same_site?",
        ),
        ("[kookie]", "cloakroom.toml:3:2: kookie: there is no such key; did you mean cookie?"),
        (
            "[[routes]]\nupstream = 'app'\ntarget = 1",
            "cloakroom.toml:5:1: routes[0].target: there is no such key; expected one of host, path, upstream, \
             session, on_store_error, stale_max_age, vary, near_cache, pass_cookie, save_on_5xx, on_interrupted",
        ),
    ] {
        assert_eq!(fault(text), message);
    }
    assert_eq!(
        faults("cookie = { nmae = 'x' }"),
        "cloakroom.toml:1:12: cookie.nmae: there is no such key; did you mean name?"
    );
    assert_eq!(
        faults("cookie.nmae = 'x'"),
        "cloakroom.toml:1:8: cookie.nmae: there is no such key; did you mean name?"
    );
}

#[test]
fn what_two_parts_would_refuse_is_said_once() {
    let text = "[store]\nformat = 'django'\ndjango = { secret_key = 'x', use_tz = false, time_zone = 'Mars/Base' }";
    assert!(fault(text).starts_with("cloakroom.toml:5:58: store.django.time_zone = \"Mars/Base\": is no time zone"));
    let text = "[store]\nformat = 'django'\n[session]\nabsolute_timeout = '1h'\n[store.django]\nsecret_key = 'x'";
    assert!(fault(text).starts_with("cloakroom.toml:6:20: session.absolute_timeout = 3600s: is not for format"));
}

#[test]
fn an_unknown_engine_is_refused_with_what_was_perhaps_meant() {
    let message = "cloakroom.toml:4:10: store.engine = \"reddis\": did you mean redis?";
    assert_eq!(fault("[store]\nengine = 'reddis'"), message);
}

#[test]
fn old_sessions_are_shown_only_from_a_near_cache() {
    let redis = "[store]\nengine = 'redis'\nurl = 'redis://127.0.0.1'\n";
    let stale = "[[routes]]\nupstream = 'app'\non_store_error = 'stale'\n";
    for route in ["", "near_cache = false"] {
        Config::parse(&format!("{UPSTREAM}\n{redis}{stale}{route}"), "x").unwrap();
    }
    for (text, fault_of) in [
        (format!("{redis}{stale}stale_max_age = 0"), "routes[0].stale_max_age = 0ns: must be longer than nothing"),
        (
            format!("{redis}[[routes]]\nupstream = 'app'\nstale_max_age = '1m'"),
            "routes[0].stale_max_age = 60s: is only for on_store_error = \"stale\"",
        ),
    ] {
        let found = fault(&text);
        assert!(found.contains(fault_of), "{text}: {found}");
    }
}

#[test]
fn where_no_near_cache_is_it_is_said_what_would_be_right() {
    let stale = "[[routes]]\nupstream = 'app'\non_store_error = 'stale'\n";
    let redis = "engine = 'redis'\nurl = 'redis://127.0.0.1'\n";
    for (store, route, told) in [
        ("", "", "needs a near cache, which is off with this engine: write store.near_cache.enabled = true and store"),
        (&*format!("{redis}near_cache.enabled = false"), "", "needs the near cache: take store.near_cache.enabled = f"),
        (redis, "session = false", "means nothing with session = false"),
        ("engine = 'memory'", "", "means nothing with engine = \"memory\""),
        (&*format!("engine = 'signed_cookies'\nkeys = ['{:064}']", 1), "", "means nothing with engine = \"signed_c"),
    ] {
        let found = fault(&format!("[store]\n{store}\n{stale}{route}"));
        assert!(found.contains(&format!(": routes[0].on_store_error = \"stale\": {told}")), "{store}: {found}");
    }
}

#[test]
fn a_near_cache_is_turned_off_in_its_table() {
    let told = "cloakroom.toml:4:14: store.near_cache = false: invalid type: boolean `false`, expected a table: to turn it \
                off write [store.near_cache] enabled = false";
    assert_eq!(fault("[store]\nnear_cache = false"), told);
}

#[test]
fn a_cookie_is_passed_only_to_who_shares_the_sessions() {
    let route = "[[routes]]\nupstream = 'app'\n[[routes]]\nupstream = 'app'\npath = '/django'\npass_cookie = true\n";
    assert_eq!(
        fault(route),
        "cloakroom.toml:8:15: routes[1].pass_cookie = true: is for backends that share the sessions: it needs \
         store.format = \"django\""
    );
    assert_eq!(
        fault(&format!("{route}session = false\n[store]\nformat = 'django'\ndjango.secret_key = 'x'")),
        "cloakroom.toml:8:15: routes[1].pass_cookie = true: means nothing with session = false, where no cookie of a \
         session is passed"
    );
}

#[test]
fn a_store_in_memory_has_room_for_a_session() {
    let text = |bytes: usize| format!("[store]\nengine = 'memory'\nmax_bytes = {bytes}");
    let message = fault(&text(65_536));
    assert!(message.contains("store.max_bytes = 65536: must be at least 73728"), "{message}");
    assert!(Config::parse(&format!("upstreams.app.servers = ['http://h']\n{}", text(73_728)), "c").is_ok());
}

#[test]
fn a_session_in_the_cookie_has_no_key_and_no_idle_time() {
    let keys = "[store]\nengine = 'signed_cookies'\nkeys = ['00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff']";
    for (text, place) in [
        ("[session]\nidle_timeout = '30m'", "session.idle_timeout = 1800s: needs a store"),
        ("[headers]\nid = true\nid_key = '0123456789abcdef0123456789abcdef'", "headers.id = true: needs a store"),
    ] {
        let message = fault(&format!("{keys}\n{text}"));
        assert!(message.contains(place), "{message}");
    }
    assert!(Config::parse(&format!("{UPSTREAM}{keys}\n[session]\nabsolute_timeout = '12h'"), "x").is_ok());
}

#[test]
fn what_cannot_be_read_is_named_with_its_place() {
    for (text, message) in [
        (
            "[headers]\ndata = 'yes'",
            "cloakroom.toml:4:8: headers.data = 'yes': invalid type: string, expected a boolean",
        ),
        ("[[routes]]\npath = '/'", "cloakroom.toml:3:1: routes[0]: upstream is missing"),
        ("[log]\nformat = 'jsn'", "cloakroom.toml:4:10: log.format = \"jsn\": did you mean json?"),
    ] {
        assert_eq!(fault(text), message);
    }
    let syntax = fault("[cookie]\nname = sessionid");
    assert!(syntax.starts_with("cloakroom.toml:4:8: "), "{syntax}");
    let duration = fault("[session]\nmax_age = '2 weeks'");
    assert!(duration.starts_with("cloakroom.toml:4:11: session.max_age = '2 weeks': "), "{duration}");
    assert!(duration.contains("14d"), "{duration}");
    let twice = fault("[cookie]\nname = 'a'\nname = 'b'");
    assert!(twice.starts_with("cloakroom.toml:5:1: "), "{twice}");
}

#[test]
fn no_message_repeats_a_secret() {
    for text in [
        "[store]\nurl = 7391",
        "[store]\nurl = ['redis://u:7391@host']",
        "[store]\nurl = { vault = '7391' }",
        "[store]\nencrypt = '7391'",
        "[store]\nkeys = '7391'",
        "[store]\ndjango.secret_key_fallbacks = '7391'",
    ] {
        let message = fault(text);
        assert!(message.starts_with("cloakroom.toml:4:"), "{message}");
        assert!(!message.contains("7391"), "{message}");
    }
}

#[test]
fn routes_and_upstreams_belong_together() {
    let message = faults("");
    assert!(message.starts_with("cloakroom.toml:1:1: upstreams = nothing: "), "{message}");
    let two = format!("{UPSTREAM}[upstreams.shop]\nservers = ['http://127.0.0.1:9001']\n");
    let message = faults(&two);
    assert!(message.starts_with("cloakroom.toml:1:1: routes = nothing: with several upstreams"), "{message}");
    assert_eq!(
        faults(&format!("{two}[[routes]]\nupstream = 'app'")),
        "cloakroom.toml:3:1: upstreams.shop = unused: no route leads to it; add one or take it away"
    );
    let both = "[[routes]]\nupstream = 'app'\n[[routes]]\npath = '/shop'\nupstream = 'shop'";
    let config = Config::parse(&format!("{two}{both}"), "x").unwrap();
    for (path, upstream) in [("/", "app"), ("/shop/cart", "shop")] {
        assert_eq!(config.routes.find("any.host", path).unwrap().settings.upstream, upstream);
    }
}

#[test]
fn the_admin_listener_shares_no_address() {
    for (public, admin, shared) in [
        ("127.0.0.1:8080", "127.0.0.1:8080", true),
        ("0.0.0.0:8080", "127.0.0.1:8080", true),
        ("127.0.0.1:8080", "[::]:8080", true),
        ("127.0.0.1:8080", "127.0.0.2:8080", false),
        ("127.0.0.1:8080", "127.0.0.1:8081", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
    ] {
        let text = format!("server.listen = ['{public}']\nadmin.listen = '{admin}'\n{UPSTREAM}");
        assert_eq!(Config::parse(&text, "x").is_err(), shared, "{public} {admin}");
    }
}

#[test]
fn the_command_line_goes_through_the_same_checks() {
    let config = Config::for_upstream("http://127.0.0.1:9000", Some("127.0.0.1:1234")).unwrap();
    assert_eq!(config.upstreams["app"].servers, ["http://127.0.0.1:9000"]);
    assert_eq!(config.server.listen, ["127.0.0.1:1234".parse().unwrap()]);
    assert_eq!(
        Config::for_upstream("http://h", None).unwrap().server.listen,
        Config::parse(UPSTREAM, "x").unwrap().server.listen
    );
    for (upstream, listen, place) in [
        ("ftp://h", None, "--upstream: \"ftp://h\": "),
        ("http://h\"]\ncookie.name = [\"x", None, "--upstream: "),
        ("http://h", Some("8080"), "--listen: "),
    ] {
        let message = Config::for_upstream(upstream, listen).err().unwrap().to_string();
        assert!(message.starts_with(place), "{message}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nonexistent/cloakroom.toml")).err().unwrap();
    assert_eq!(error.to_string(), "the configuration /nonexistent/cloakroom.toml cannot be read");
    assert!(std::error::Error::source(&error).is_some());
}
