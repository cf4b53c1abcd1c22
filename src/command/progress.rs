//! How far a long command has come, on standard error: on a terminal a line that changes, with a bar where the whole is
//! known; else a line every few seconds.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

const ON_TERMINAL: Duration = Duration::from_millis(100);
const ELSEWHERE: Duration = Duration::from_secs(5);
/// What takes the cursor to the start of the line, and clears it.
const CLEAR: &str = "\r\x1b[K";
/// Columns of the bar.
const BAR: u64 = 30;

pub struct Progress {
    out: Box<dyn Write + Send>,
    terminal: bool,
    what: &'static str,
    done: u64,
    /// Of so many, where that is known.
    total: Option<u64>,
    last: Instant,
    /// The line on the terminal is to be cleared.
    dirty: bool,
}

impl Progress {
    /// Of this process, on standard error.
    pub fn new() -> Self {
        Self::on(Box::new(io::stderr()), io::stderr().is_terminal())
    }

    fn on(out: Box<dyn Write + Send>, terminal: bool) -> Self {
        Self { out, terminal, what: "", done: 0, total: None, last: Instant::now(), dirty: false }
    }

    /// A new part of the work.
    pub(super) fn begin(&mut self, what: &'static str, total: Option<u64>) {
        (self.what, self.done, self.total) = (what, 0, total);
    }

    /// One more is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        self.step_at(Instant::now());
    }

    fn step_at(&mut self, now: Instant) {
        let pause = if self.terminal { ON_TERMINAL } else { ELSEWHERE };
        if now.duration_since(self.last) < pause {
            return;
        }
        self.last = now;
        let Self { what, done, .. } = self;
        let text = match self.total {
            // Sessions come and go meanwhile.
            Some(total) if self.terminal => format!("{what}: {} {done} of about {total}", bar(*done, total)),
            Some(total) => format!("{what}: {done} of about {total}"),
            None => format!("{what}: {done}"),
        };
        // A terminal that has gone is no reason to stop.
        if self.terminal {
            self.dirty = true;
            let _ = write!(self.out, "{CLEAR}{text}").and_then(|()| self.out.flush());
        } else {
            let _ = writeln!(self.out, "{text}");
        }
    }

    /// The work is over, and the answer comes next.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.dirty) {
            let _ = write!(self.out, "{CLEAR}").and_then(|()| self.out.flush());
        }
    }
}

/// Full when more is done than there was to do.
fn bar(done: u64, total: u64) -> String {
    let full = (done.saturating_mul(BAR) / total.max(1)).min(BAR);
    let marks = |mark: char, count: u64| std::iter::repeat_n(mark, usize::try_from(count).unwrap_or_default());
    let bar: String = marks('#', full).chain(marks('-', BAR - full)).collect();
    format!("[{bar}]")
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of thirty steps, half a second apart.
    fn shown(terminal: bool, total: Option<u64>) -> String {
        let written = Written::default();
        let mut progress = Progress::on(Box::new(written.clone()), terminal);
        progress.begin("copied", total);
        let start = progress.last;
        for step in 1..=30 {
            progress.done += 1;
            progress.step_at(start + Duration::from_millis(500) * step);
        }
        drop(progress);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn elsewhere_it_is_a_line_every_few_seconds() {
        assert_eq!(shown(false, None), "copied: 10\ncopied: 20\ncopied: 30\n");
        assert_eq!(shown(false, Some(40)).lines().last(), Some("copied: 30 of about 40"));
    }

    #[test]
    fn on_a_terminal_there_is_a_bar_where_the_whole_is_known() {
        let text = shown(true, Some(40));
        assert!(text.contains("\r\x1b[Kcopied: [###############---------------] 20 of about 40"), "{text:?}");
        for (done, total, full) in [(0, 40, 0), (40, 40, 30), (41, 40, 30), (0, 0, 0), (1, 0, 30), (u64::MAX, 1, 30)] {
            assert_eq!(bar(done, total).matches('#').count(), full, "{done} of {total}");
        }
    }

    #[test]
    fn on_a_terminal_it_is_one_line_that_goes_at_the_end() {
        let text = shown(true, None);
        assert_eq!(text.matches("\r\x1b[Kcopied: ").count(), 30);
        assert!(!text.contains('\n') && text.ends_with("copied: 30\r\x1b[K"), "{text:?}");
    }
}
