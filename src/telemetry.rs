//! The log: one event, one line on standard error, as text or JSON, in UTC. Whatever a client sends can change neither the
//! number of lines nor the number of fields in one.

mod writer;

use std::error::Error;
use std::{fmt, io};

use serde::Deserialize;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{FormatFields, Writer};
use tracing_subscriber::fmt::{MakeWriter, SubscriberBuilder};

pub use self::writer::Flush;
use self::writer::Lines;

/// `[log]`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    pub format: LogFormat,
    /// Whether each request is logged when it is answered.
    pub access: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, access: true }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Json,
    Text,
}

/// Sends the events of the whole process to standard error from now on. Whoever reads it keeps nobody waiting; what is not
/// written yet is when the returned is dropped.
///
/// # Errors
/// When the process has a log already, or the system gives no thread.
pub fn install(settings: &LogSettings) -> io::Result<Flush> {
    let (lines, flush) = Lines::start(io::stderr())?;
    tracing::subscriber::set_global_default(subscriber(settings.format, lines)).map_err(io::Error::other)?;
    Ok(flush)
}

fn subscriber<W>(format: LogFormat, writer: W) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let builder = SubscriberBuilder::default().with_writer(writer);
    match format {
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
        LogFormat::Text => Box::new(builder.fmt_fields(TextFields).finish()),
    }
}

/// An error with its causes on one line: `message: cause: cause of the cause`. A cause that the message before it ends
/// with already, as some libraries write theirs, is not repeated.
pub struct Causes<'a>(pub &'a dyn Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut message = self.0.to_string();
        formatter.write_str(&message)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let next = error.to_string();
            if !message.ends_with(&next) {
                write!(formatter, ": {next}")?;
            }
            message = next;
            cause = error.source();
        }
        Ok(())
    }
}

/// `message name=value name="a value"`. The fields that tracing-subscriber itself writes hold `%value` as it is, so that
/// a line break in a path would begin a new line.
struct TextFields;

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = TextVisitor { writer, result: Ok(()), first: true };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct TextVisitor<'writer> {
    writer: Writer<'writer>,
    result: fmt::Result,
    first: bool,
}

impl TextVisitor<'_> {
    fn begin(&mut self) -> fmt::Result {
        if std::mem::take(&mut self.first) { Ok(()) } else { self.writer.write_char(' ') }
    }

    fn write(&mut self, field: &Field, value: &str) -> fmt::Result {
        self.begin()?;
        if field.name() == "message" {
            return value.chars().try_for_each(|c| match c {
                c if c.is_control() => write!(self.writer, "{}", c.escape_default()),
                c => self.writer.write_char(c),
            });
        }
        write!(self.writer, "{}=", field.name())?;
        if is_one_word(value) || is_quoted(value) {
            self.writer.write_str(value)
        } else {
            write!(self.writer, "{value:?}")
        }
    }
}

impl Visit for TextVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if self.result.is_ok() {
            self.result = self.write(field, value);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if self.result.is_ok() {
            self.result = self.begin().and_then(|()| write!(self.writer, "{}={value}", field.name()));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record_str(field, &Causes(value).to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

fn is_one_word(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'='))
}

/// Whether this is one quoted string as `{:?}` writes it, which need not be quoted again.
fn is_quoted(value: &str) -> bool {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return false;
    };
    let mut escaped = false;
    for c in inner.chars() {
        if c.is_control() || (c == '"' && !escaped) {
            return false;
        }
        escaped = c == '\\' && !escaped;
    }
    !escaped
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    const EVIL: &str = "/a\r\n2026-01-01T00:00:00Z INFO forged user=\"root\"\u{1b}[2J\u{9b}K";

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, event: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        tracing::subscriber::with_default(subscriber(format, move || writer.clone()), event);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn evil_event() {
        tracing::info!(path = EVIL, shown = %EVIL, debug = ?EVIL, error = &io::Error::other(EVIL) as &dyn Error, "{EVIL}");
    }

    #[test]
    fn no_value_forges_a_line_of_text() {
        let text = logged(LogFormat::Text, evil_event);
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(text.ends_with('\n'));
        assert!(!text.trim_end_matches('\n').contains(|c: char| c.is_control()), "{text:?}");
        for field in ["path", "shown", "debug", "error"] {
            assert!(
                text.contains(&format!(" {field}=\"/a\\r\\n2026-01-01T00:00:00Z INFO forged user=\\\"root\\\"")),
                "{text}"
            );
        }
    }

    #[test]
    fn no_value_forges_a_line_of_json() {
        let text = logged(LogFormat::Json, evil_event);
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.trim_end_matches('\n').contains(|c: char| c.is_ascii_control()), "{text:?}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["path"], EVIL);
        assert_eq!(line["shown"], EVIL);
        assert_eq!(line["message"], EVIL);
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn no_value_forges_a_field() {
        for (value, written) in [
            ("/a", "path=/a"),
            ("", "path=\"\""),
            ("/a status=200", "path=\"/a status=200\""),
            ("a=b", "path=\"a=b\""),
            ("\" status=200 x=\"", "path=\" status=200 x=\""),
            ("\"\\\" status=200", "path=\"\\\"\\\\\\\" status=200\""),
            ("\"a\\\\\" b\"", "path=\"\\\"a\\\\\\\\\\\" b\\\"\""),
            ("\"a\\\"", "path=\"\\\"a\\\\\\\"\""),
            ("é", "path=\"é\""),
        ] {
            let text = logged(LogFormat::Text, || tracing::info!(path = %value, "answered"));
            let (_, fields) = text.trim_end().split_once(": ").unwrap();
            assert_eq!(fields, format!("answered {written}"));
        }
    }

    #[test]
    fn a_line_begins_with_the_time_in_utc_and_the_level() {
        let text = logged(LogFormat::Text, || tracing::warn!(status = 503, debug = ?"a b", "answered"));
        let mut words = text.split_whitespace();
        let time = words.next().unwrap();
        assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        assert_eq!(words.next(), Some("WARN"));
        assert!(text.ends_with(": answered status=503 debug=\"a b\"\n"), "{text}");

        let text = logged(LogFormat::Json, || tracing::warn!(status = 503, "answered"));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(line["status"], 503);
    }

    #[test]
    fn an_error_is_written_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("the store cannot be opened")]
        struct Outer(#[source] io::Error);

        #[derive(Debug, thiserror::Error)]
        #[error("redis: {0}")]
        struct Talkative(#[source] io::Error);

        assert_eq!(Causes(&Talkative(io::Error::other("refused"))).to_string(), "redis: refused");
        let error = Outer(io::Error::other("no such file"));
        assert_eq!(Causes(&error).to_string(), "the store cannot be opened: no such file");
        let text = logged(LogFormat::Text, || tracing::error!(error = &error as &dyn Error, "stopped"));
        assert!(text.ends_with("stopped error=\"the store cannot be opened: no such file\"\n"), "{text}");
    }

    #[test]
    fn settings_have_defaults_and_no_other_keys() {
        assert_eq!(toml::from_str(""), Ok(LogSettings::default()));
        assert_eq!(
            toml::from_str("format = 'json'\naccess = false"),
            Ok(LogSettings { format: LogFormat::Json, access: false })
        );
        assert!(toml::from_str::<LogSettings>("format = 'xml'").is_err());
        assert!(toml::from_str::<LogSettings>("colour = true").is_err());
    }
}
