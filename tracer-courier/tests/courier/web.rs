//! A receiver over HTTP that does what a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What it does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with this status and these lines of a header, each with its end.
    Answer(u16, String),
    /// Answers 200 with this body.
    Body(Vec<u8>),
    /// Says nothing.
    Hang,
    /// Answers with something that is no HTTP.
    Junk,
    /// Answers 200 and then sends without end.
    Flood,
}

/// A request that was answered with success.
#[derive(Clone, Debug)]
pub struct Taken {
    pub path: String,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Taken {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// It listens until the test ends.
pub struct Web {
    pub url: String,
    taken: Arc<Mutex<Vec<Taken>>>,
    asked: Arc<Mutex<usize>>,
}

impl Web {
    /// On any port; `act` gets the number of each request, from 0.
    pub fn start(act: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), act)
    }

    pub fn on(listener: TcpListener, act: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let taken: Arc<Mutex<Vec<Taken>>> = Arc::default();
        let asked: Arc<Mutex<usize>> = Arc::default();
        let act = Arc::new(act);
        let (keep, count) = (Arc::clone(&taken), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (act, keep, count) = (Arc::clone(&act), Arc::clone(&keep), Arc::clone(&count));
                thread::spawn(move || {
                    let next = || {
                        let mut count = count.lock().unwrap();
                        *count += 1;
                        act(*count - 1)
                    };
                    // An error: the client went away.
                    let _ = serve(&stream, next, &keep);
                });
            }
        });
        Self { url, taken, asked }
    }

    pub fn ok() -> Self {
        Self::start(|_| Act::Answer(200, String::new()))
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    pub fn ids(&self) -> Vec<u64> {
        self.taken().iter().map(|taken| taken.json()["id"].as_u64().unwrap()).collect()
    }

    pub fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

fn serve(
    stream: &TcpStream,
    next: impl Fn() -> Act,
    taken: &Mutex<Vec<Taken>>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut headers = String::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            headers.push_str(&line.to_lowercase());
        }
        let length = headers.lines().find_map(|line| line.strip_prefix("content-length:"));
        let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
        reader.read_exact(&mut body)?;
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let take = || taken.lock().unwrap().push(Taken { path, headers, body });
        match next() {
            Act::Answer(status, lines) => {
                if status < 300 {
                    take();
                }
                let answer = format!("HTTP/1.1 {status} X\r\n{lines}Content-Length: 0\r\n\r\n");
                writer.write_all(answer.as_bytes())?;
            }
            Act::Body(answer) => {
                take();
                write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len())?;
                writer.write_all(&answer)?;
            }
            Act::Hang => thread::sleep(Duration::from_secs(60)),
            Act::Junk => {
                writer.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n")?;
                return Ok(());
            }
            Act::Flood => {
                take();
                write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")?;
                loop {
                    writer.write_all(&[b'x'; 65536])?;
                }
            }
        }
    }
}
