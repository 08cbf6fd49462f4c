//! An HTTP client, as much of it as a customer needs: one GET on one connection, within a time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody listens, or it does not take part.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// What came is no answer.
    #[error("no answer of HTTP: {0:?}")]
    Malformed(Vec<u8>),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200 = all is well.
    pub status: u16,
    /// What follows the headers.
    pub body: Vec<u8>,
}

/// Asks for `uri`, and waits at most `timeout` for the whole answer.
pub fn get(socket: &Path, uri: &str, timeout: Duration) -> Result<Answer, HttpError> {
    let deadline = Instant::now() + timeout;
    let mut stream = UnixStream::connect(socket).map_err(HttpError::Connect)?;
    stream.set_write_timeout(Some(timeout)).map_err(HttpError::Connect)?;
    // 1.0: the answer ends with the connection.
    let request = format!("GET {uri} HTTP/1.0\r\nHost: shop.example\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(HttpError::Broken)?;
    let mut output = Vec::new();
    let mut part = [0; 16384];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(HttpError::Timeout);
        }
        stream.set_read_timeout(Some(left)).map_err(HttpError::Broken)?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => output.extend_from_slice(&part[..count]),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    return Err(HttpError::Timeout);
                }
                io::ErrorKind::Interrupted => {}
                _ => return Err(HttpError::Broken(error)),
            },
        }
    }
    split(&output).ok_or(HttpError::Malformed(output))
}

fn split(output: &[u8]) -> Option<Answer> {
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let status = std::str::from_utf8(output.get(9..12)?).ok()?.parse().ok()?;
    Some(Answer { status, body: output[end + 4..].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_split() {
        let answer = split(b"HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\n\r\n<html>").unwrap();
        assert_eq!(answer, Answer { status: 502, body: b"<html>".to_vec() });
        assert_eq!(split(b"HTTP/1.1 200 OK\r\nServer: ng"), None);
        assert_eq!(split(b""), None);
    }
}
