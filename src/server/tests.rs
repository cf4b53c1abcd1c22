//! Connections over streams in memory, in time that passes as soon as nobody has anything to do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Server, Visitors, worker};
use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;

const SETTINGS: &str = "
server.listen = ['127.0.0.1:0']
server.header_timeout = '30s'
server.send_timeout = '60s'
upstreams.app.servers = ['http://127.0.0.1:1']
";
const FAR: usize = 64 << 10;

/// One visitor before one backend, both in memory.
struct Scene {
    app: Arc<App>,
    visitor: DuplexStream,
    /// The targets that the backend was asked for.
    asked: UnboundedReceiver<String>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Scene {
    async fn open(room: usize) -> Self {
        let config = Config::parse(SETTINGS, "a test's").unwrap();
        let server = Server::open(config, Clock::system()).await;
        let shared = server.unwrap().shared;
        let app = worker::open(&shared).await.unwrap();
        let (near, far) = duplex(FAR);
        app.upstreams["app"].adopt(near).await.unwrap();
        let (tell, asked) = unbounded_channel();
        tokio::spawn(answer(far, tell));

        let (app, stop) = (Arc::new(app), CancellationToken::new());
        let visitors = Visitors::new(Arc::clone(&app), &shared.settings, &stop);
        let (visitor, near) = duplex(room);
        let serving = tokio::spawn(async move { visitors.serve(near, SocketAddr::from(([127, 0, 0, 1], 1))).await });
        Self { app, visitor, asked, stop, serving }
    }

    async fn send(&mut self, bytes: &str) {
        self.visitor.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// The body of the next answer.
    async fn answer(&mut self) -> String {
        let mut answer = String::new();
        while !(answer.contains("\r\n\r\n") && answer.ends_with('.')) {
            answer.push(char::from(self.visitor.read_u8().await.unwrap()));
        }
        let (head, body) = answer.rsplit_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        body.to_owned()
    }

    /// Waits for the end, before which nothing more may come.
    async fn closed(&mut self) {
        assert_eq!(self.visitor.read(&mut [0]).await.unwrap_or_default(), 0);
    }

    async fn assert_closed(mut self) {
        self.closed().await;
        self.serving.await.unwrap();
        assert!(self.app.metrics.open_metrics().contains("cloakroom_connections_open 0\n"));
        assert!(self.asked.try_recv().is_err(), "the backend was asked once more");
    }
}

/// A backend that answers each request with its target and a full stop.
async fn answer(mut stream: DuplexStream, tell: UnboundedSender<String>) {
    let mut read = String::new();
    while let Ok(byte) = stream.read_u8().await {
        read.push(char::from(byte));
        if read.ends_with("\r\n\r\n") {
            let target = read.split(' ').nth(1).unwrap().to_owned();
            read.clear();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}.", target.len() + 1);
            tell.send(target).unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

#[tokio::test(start_paused = true)]
async fn requests_are_whole_wherever_a_connection_was_quiet_within_them() {
    let mut scene = Scene::open(FAR).await;
    let request = get("/a");
    for cut in 0..request.len() {
        let (first, second) = request.split_at(cut);
        sleep(Duration::from_secs(5)).await;
        // Behind a whole request, so that hyper has read some of the next when it is quiet.
        scene.send(&(get("/before") + first)).await;
        assert_eq!(scene.answer().await, "/before.");
        sleep(Duration::from_secs(5)).await;
        scene.send(second).await;
        assert_eq!(scene.answer().await, "/a.");
        assert_eq!(scene.asked.recv().await.unwrap(), "/before");
        assert_eq!(scene.asked.recv().await.unwrap(), "/a");
    }
    let Scene { visitor, serving, .. } = scene;
    drop(visitor);
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_head_larger_than_what_is_read_at_once_is_read_whole() {
    let mut scene = Scene::open(FAR).await;
    for length in [1000, 2000, 2048, 4096, 8000] {
        sleep(Duration::from_secs(5)).await;
        let target = format!("/{}", "u".repeat(length));
        scene.send(&get(&target)).await;
        assert_eq!(scene.answer().await, target + ".");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_trickle_in_do_not_put_the_time_out_off() {
    for (pause, before) in [(100_u32, 0), (1_500, 0), (4_000, 0), (100, 3), (1_500, 3), (29_000, 3)] {
        let mut scene = Scene::open(FAR).await;
        for _ in 0..before {
            sleep(Duration::from_secs(20)).await;
            scene.send(&get("/a")).await;
            scene.answer().await;
            scene.asked.recv().await.unwrap();
        }
        let start = Instant::now();
        while scene.visitor.write_all(b"G").await.is_ok() {
            sleep(Duration::from_millis(pause.into())).await;
        }
        let lasted = start.elapsed().as_secs_f64();
        assert!((29.9..30.2 + f64::from(pause) / 1e3).contains(&lasted), "{lasted} s, a byte each {pause} ms");
        scene.assert_closed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_nobody_uses_ends_after_the_time_for_a_head() {
    for used in [false, true] {
        let mut scene = Scene::open(FAR).await;
        if used {
            scene.send(&get("/a")).await;
            scene.answer().await;
            scene.asked.recv().await.unwrap();
        }
        let start = Instant::now();
        scene.closed().await;
        assert!((29.9..30.1).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
        scene.assert_closed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_taken_slowly_has_no_time_out_for_the_next_head() {
    // Less room than the answer needs, and no reader for longer than a head may take.
    let mut scene = Scene::open(20).await;
    scene.send(&get("/a")).await;
    sleep(Duration::from_secs(45)).await;
    assert_eq!(scene.answer().await, "/a.");
    let start = Instant::now();
    scene.asked.recv().await.unwrap();
    scene.closed().await;
    assert!((29.9..30.1).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
    scene.assert_closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_quiet_connection_at_once() {
    for quiet in [0, 500, 5_000] {
        let mut scene = Scene::open(FAR).await;
        scene.send(&get("/a")).await;
        scene.answer().await;
        scene.asked.recv().await.unwrap();
        sleep(Duration::from_millis(quiet)).await;
        let start = Instant::now();
        scene.stop.cancel();
        scene.closed().await;
        assert!(start.elapsed() < Duration::from_millis(10), "{:?} after {quiet} ms", start.elapsed());
        scene.assert_closed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_has_begun_to_come_is_answered_after_a_stop() {
    let (first, second) = ("GET /a HTTP/1.1\r\nHo", "st: h\r\n\r\n");
    for quiet in [0, 500, 5_000] {
        // As the first of its connection, after an answer, and behind the request before it.
        for before in ["", "answered", "pipelined"] {
            let mut scene = Scene::open(FAR).await;
            match before {
                "answered" => scene.send(&get("/before")).await,
                "pipelined" => scene.send(&(get("/before") + first)).await,
                _ => scene.send(first).await,
            }
            if !before.is_empty() {
                assert_eq!(scene.answer().await, "/before.");
                scene.asked.recv().await.unwrap();
            }
            if before == "answered" {
                scene.send(first).await;
            }
            sleep(Duration::from_millis(quiet)).await;
            scene.stop.cancel();
            sleep(Duration::from_secs(5)).await;
            scene.send(second).await;
            assert_eq!(scene.answer().await, "/a.", "{before} after {quiet} ms");
            scene.asked.recv().await.unwrap();
            scene.assert_closed().await;
        }
    }
}

#[tokio::test]
async fn few_connections_are_spread_over_all_workers() {
    let config = Config::parse(&format!("server.workers = 4\n{SETTINGS}"), "a test's").unwrap();
    let server = Server::open(config, Clock::system()).await.unwrap();
    let (shared, address) = (Arc::clone(&server.shared), server.addresses()[0]);
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.run(stop.clone().cancelled_owned()));
    let mut visitors = Vec::new();
    for _ in 0..12 {
        let mut visitor = TcpStream::connect(address).await.unwrap();
        visitor.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        let mut status = [0; 12];
        visitor.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 502", "there is no backend");
        visitors.push(visitor);
    }
    assert_eq!(shared.doors.open(), [3; 4]);
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(shared.doors.open(), [0; 4]);
}
