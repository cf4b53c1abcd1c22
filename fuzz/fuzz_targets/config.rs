//! Any text as a configuration. Reading never panics, and no message says a secret. The first byte chooses where a
//! secret stands around the text.
#![no_main]

use std::error::Error;

use cloakroom::config::Config;
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "kwqzv0123456789abcdef0123456789abcdefxyj";

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    // A secret may be read from a file: not from any file of this machine.
    if text.contains("file") || text.contains('\\') || text.contains(SECRET) {
        return;
    }
    let text = match choice % 8 {
        0 => text.to_owned(),
        1 => format!("store.password = '{SECRET}'\n{text}"),
        2 => format!("store.url = 'redis://name:{SECRET}@127.0.0.1/0'\n{text}"),
        3 => format!("headers.id_key = '{SECRET}'\n{text}"),
        4 => format!("{text}\n[store]\npassword = '{SECRET}'\n"),
        5 => format!("{text}\n[store]\nengine = 'redis'\nurl = 'x://:{SECRET}@h:port/{text}'\n"),
        6 => format!("{text}\n[headers]\nid = true\nid_key = '''{SECRET}'''\n"),
        _ => format!("{text}\n[upstreams.app]\nservers = ['http://h']\n[store]\nurl = '{SECRET}'\nengine = 'redis'\n"),
    };
    let Err(error) = Config::parse(&text, "fuzz.toml") else { return };
    let mut cause: Option<&dyn Error> = Some(&error);
    while let Some(error) = cause {
        let (shown, debug) = (error.to_string(), format!("{error:?}"));
        assert!(!shown.is_empty());
        assert!(!shown.contains(SECRET) && !debug.contains(SECRET), "{shown}\n{debug}");
        cause = error.source();
    }
});
