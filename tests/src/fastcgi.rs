//! A FastCGI client, as much of it as a test needs: one request on one connection, its output read
//! as it comes. <https://fastcgi-archives.github.io/FastCGI_Specification.html>

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
const RESPONDER: u8 = 1;
const REQUEST_ID: u8 = 1;

/// A request that was sent and is not yet answered in full.
#[derive(Debug)]
pub struct Request {
    stream: UnixStream,
    /// What came on standard output so far: headers, an empty line, the body.
    pub output: Vec<u8>,
    /// What came on standard error so far.
    pub errors: Vec<u8>,
}

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub enum FastCgiError {
    /// The connection broke before the end of the request: the worker died.
    #[error("the worker closed the connection before its answer was complete")]
    Broken,
    /// Connecting, reading or writing failed.
    #[error("FastCGI: {0}")]
    Io(#[from] io::Error),
    /// The answer breaks the protocol.
    #[error("FastCGI record of version {version}, type {kind}")]
    Protocol {
        /// Version byte.
        version: u8,
        /// Type byte.
        kind: u8,
    },
}

impl Request {
    /// Sends `GET uri` for `script` (its absolute path) to the pool that listens at `socket`.
    pub fn send(socket: &Path, script: &Path, query: &str) -> Result<Self, FastCgiError> {
        let script = script.to_string_lossy();
        let name = script.rsplit('/').next().unwrap_or_default();
        let uri = format!("/{name}?{query}");
        Self::send_as(socket, "GET", uri.as_bytes(), &script)
    }

    /// Sends a request for any URI, which `script` answers.
    pub fn send_as(
        socket: &Path,
        method: &str,
        uri: &[u8],
        script: &str,
    ) -> Result<Self, FastCgiError> {
        let mut stream = UnixStream::connect(socket)?;
        let name = script.rsplit('/').next().unwrap_or_default();
        let at = uri.iter().position(|byte| *byte == b'?').map_or(uri.len(), |at| at + 1);
        let mut params = Vec::new();
        for (name, value) in [
            ("GATEWAY_INTERFACE", &b"CGI/1.1"[..]),
            ("REQUEST_METHOD", method.as_bytes()),
            ("SCRIPT_FILENAME", script.as_bytes()),
            ("SCRIPT_NAME", format!("/{name}").as_bytes()),
            ("REQUEST_URI", uri),
            ("QUERY_STRING", &uri[at..]),
            ("HTTP_HOST", b"shop.example"),
            ("REMOTE_ADDR", b"192.0.2.7"),
            ("SERVER_PROTOCOL", b"HTTP/1.1"),
        ] {
            length(&mut params, name.len());
            length(&mut params, value.len());
            params.extend_from_slice(name.as_bytes());
            params.extend_from_slice(value);
        }
        let mut message = Vec::new();
        record(&mut message, BEGIN_REQUEST, &[0, RESPONDER, 0, 0, 0, 0, 0, 0]);
        for part in params.chunks(usize::from(u16::MAX)) {
            record(&mut message, PARAMS, part);
        }
        record(&mut message, PARAMS, &[]);
        record(&mut message, STDIN, &[]);
        stream.write_all(&message)?;
        Ok(Self { stream, output: Vec::new(), errors: Vec::new() })
    }

    /// Gives up on a record that does not come within `timeout`.
    pub fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout))
    }

    /// Reads one record; false = the request has ended.
    pub fn read(&mut self) -> Result<bool, FastCgiError> {
        let mut head = [0_u8; 8];
        self.read_exact(&mut head)?;
        let [version, kind, _, _, high, low, padding, _] = head;
        let mut content = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        self.read_exact(&mut content)?;
        self.read_exact(&mut vec![0; usize::from(padding)])?;
        match (version, kind) {
            (VERSION, STDOUT) => self.output.extend_from_slice(&content),
            (VERSION, STDERR) => self.errors.extend_from_slice(&content),
            (VERSION, END_REQUEST) => return Ok(false),
            _ => return Err(FastCgiError::Protocol { version, kind }),
        }
        Ok(true)
    }

    /// Reads until the request has ended.
    pub fn finish(mut self) -> Result<Response, FastCgiError> {
        while self.read()? {}
        Ok(Response::split(&self.output, self.errors))
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), FastCgiError> {
        self.stream.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => FastCgiError::Broken,
            _ => FastCgiError::Io(error),
        })
    }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Header lines.
    pub headers: Vec<String>,
    /// What follows the empty line.
    pub body: Vec<u8>,
    /// Standard error.
    pub errors: Vec<u8>,
}

impl Response {
    /// Splits CGI output at its first empty line.
    pub fn split(output: &[u8], errors: Vec<u8>) -> Self {
        let at = output.windows(4).position(|window| window == b"\r\n\r\n");
        let (head, body) = at.map_or((output, &[][..]), |at| (&output[..at], &output[at + 4..]));
        let headers = String::from_utf8_lossy(head).lines().map(str::to_owned).collect();
        Self { headers, body: body.to_vec(), errors }
    }

    /// Value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut pairs = self.headers.iter().filter_map(|line| line.split_once(": "));
        pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

fn length(out: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => out.extend_from_slice(&(length as u32 | 0x8000_0000).to_be_bytes()),
    }
}

fn record(out: &mut Vec<u8>, kind: u8, content: &[u8]) {
    let [high, low] = (content.len() as u16).to_be_bytes();
    out.extend_from_slice(&[VERSION, kind, 0, REQUEST_ID, high, low, 0, 0]);
    out.extend_from_slice(content);
}
