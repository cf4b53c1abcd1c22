//! The log's way out: lines are written by a thread of their own, many at once, so that no worker ever waits for whoever
//! reads the log.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// Whose events there is one of for each request.
pub(super) const ACCESS: &str = "cloakroom::access";
/// Whose only event is that lines were lost.
const LOSS: &str = module_path!();

/// What may wait to be written: more is lost, and the loss is told.
const MOST_BYTES: usize = 1 << 20;
/// As many bytes are written without waiting for more.
const ENOUGH_BYTES: usize = 64 << 10;
/// How long the line of a request waits for others.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the end of the process waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the subscriber writes.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    lost: u64,
    /// A line is to go out at once.
    urgent: bool,
    /// There will be no more lines.
    closed: bool,
    /// All that was there when it was closed has been written.
    ended: bool,
}

/// Writes what still waits when it is dropped.
#[must_use]
pub struct Flush(Lines);

impl Lines {
    /// Starts the thread that writes into `out`.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<(Self, Flush)> {
        let lines = Self::default();
        let writer = lines.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_out(out))?;
        Ok((lines.clone(), Flush(lines)))
    }

    fn write_out(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        while let Some(lost) = self.next(&mut batch) {
            // What was lost came after this batch, and so does the word of it.
            if lost > 0 {
                tracing::warn!(lines = lost, "the log is read too slowly; lines were lost");
            }
            // A log that nobody can take is no reason to stop.
            out.write_all(&batch).and_then(|()| out.flush()).ok();
            batch.clear();
        }
        self.lock().ended = true;
        self.0.changed.notify_all();
    }

    /// Waits for lines and takes all there are; tells how many were lost after them. `None` at the end.
    fn next(&self, batch: &mut Vec<u8>) -> Option<u64> {
        let idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.closed;
        let waiting = self.0.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let few = |waiting: &mut Waiting| !waiting.urgent && !waiting.closed && waiting.lines.len() < ENOUGH_BYTES;
        let waited = self.0.changed.wait_timeout_while(waiting, PAUSE, few);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if waiting.lines.is_empty() && waiting.lost == 0 {
            return None;
        }
        std::mem::swap(batch, &mut waiting.lines);
        waiting.urgent = false;
        Some(std::mem::take(&mut waiting.lost))
    }

    fn push(&self, line: &[u8], urgent: bool, most: usize) {
        let mut waiting = self.lock();
        if waiting.lines.len() + line.len() > most {
            waiting.lost += 1;
            return;
        }
        let before = waiting.lines.len();
        waiting.lines.extend_from_slice(line);
        let enough = before < ENOUGH_BYTES && waiting.lines.len() >= ENOUGH_BYTES;
        waiting.urgent |= urgent;
        drop(waiting);
        // To wake a thread is what costs.
        if before == 0 || urgent || enough {
            self.0.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let Lines(shared) = &self.0;
        self.0.lock().closed = true;
        shared.changed.notify_all();
        drop(shared.changed.wait_timeout_while(self.0.lock(), PATIENCE, |waiting| !waiting.ended));
    }
}

/// One event's line.
pub(super) struct Line<'a> {
    lines: &'a Lines,
    urgent: bool,
    /// How many bytes may wait, this line's among them.
    most: usize,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.push(line, self.urgent, self.most);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, urgent: true, most: MOST_BYTES }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line<'a> {
        // There is one for each batch that is written: if it were lost, the count would go with it.
        let most = if event.target() == LOSS { usize::MAX } else { MOST_BYTES };
        Line { lines: self, urgent: event.target() != ACCESS, most }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::telemetry::{LogFormat, subscriber};

    /// Takes something, and nothing more until it is told to.
    struct Slow {
        go: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.send(bytes.to_vec()).unwrap();
            self.go.recv().ok();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Slow, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let (tell, go) = mpsc::channel();
        let (written, read) = mpsc::channel();
        (Slow { go, written }, tell, read)
    }

    #[test]
    fn what_waits_is_written_together_and_all_of_it_at_the_end() {
        let (out, go, read) = slow();
        let (lines, flush) = Lines::start(out).unwrap();
        lines.push(b"first\n", true, MOST_BYTES);
        assert_eq!(read.recv().unwrap(), b"first\n");
        lines.push(b"second\n", false, MOST_BYTES);
        lines.push(b"third\n", false, MOST_BYTES);
        drop(go);
        drop(flush);
        let rest: Vec<u8> = read.try_iter().flatten().collect();
        assert_eq!(rest, b"second\nthird\n");
    }

    #[test]
    fn a_reader_that_takes_nothing_keeps_nobody_waiting_and_what_is_lost_is_counted() {
        let (out, go, read) = slow();
        let (lines, flush) = Lines::start(out).unwrap();
        let line = [b'x'; 1024];
        lines.push(&line, true, MOST_BYTES);
        assert_eq!(read.recv().unwrap(), line);
        let most = MOST_BYTES / line.len();
        for _ in 0..2 * most {
            lines.push(&line, false, MOST_BYTES);
        }
        assert_eq!(lines.lock().lost, most as u64);
        drop(go);
        drop(flush);
        assert_eq!(read.try_iter().flatten().count(), MOST_BYTES);
    }

    #[test]
    fn every_line_is_written_or_counted_however_often_the_reader_stops() {
        let (out, go, read) = slow();
        let lines = Lines::default();
        let (log, writer) = (subscriber(LogFormat::Json, lines.clone()), lines.clone());
        let writer = thread::spawn(move || tracing::subscriber::with_default(log, || writer.write_out(out)));
        let line = [[b'x'; 1023].as_slice(), b"\n"].concat();
        lines.push(&line, true, MOST_BYTES);
        let (mut pushed, mut written) = (1, Vec::new());
        for round in 1..=20 {
            written.extend(read.recv().unwrap());
            // While the reader takes nothing; the last of them do not fit.
            for _ in 0..MOST_BYTES / line.len() + round {
                lines.push(&line, false, MOST_BYTES);
                pushed += 1;
            }
            go.send(()).unwrap();
        }
        drop(go);
        drop(Flush(lines));
        writer.join().unwrap();
        written.extend(read.try_iter().flatten());
        let lost = written.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"{")).map(|line| {
            let event: serde_json::Value = serde_json::from_slice(line).unwrap();
            event["lines"].as_u64().unwrap()
        });
        let lost: Vec<u64> = lost.collect();
        let whole = written.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"x")).count();
        assert_eq!(whole as u64 + lost.iter().sum::<u64>(), pushed, "{lost:?}");
    }
}
