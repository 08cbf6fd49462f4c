//! The request that a PHP process is in: what its web server handed over. PHP itself only keeps the
//! rewritten path (`/index.php` of a front controller); the URI that the client sent is in the
//! FastCGI parameters, or in apache's own record.

use std::sync::Arc;

use super::layout::{apache, fcgi, sapi};
use super::query;
use super::remote::{Remote, half, word};
use crate::event::look::{Reason, Request};
use crate::text::{MAX_TEXT_BYTES, lossy};

/// Most blocks of parameters, each with 128 of them.
const BLOCKS: usize = 4;
/// What is read again of a text to see whether it still stands there, bytes.
const WITNESS_BYTES: usize = 256;
const METHOD_BYTES: usize = 64;

const REQUEST_URI: usize = 0;
const HTTP_HOST: usize = 1;
const SCRIPT_FILENAME: usize = 2;
const REQUEST_METHOD: usize = 3;
const REMOTE_ADDR: usize = 4;
const NAMES: [&[u8]; 5] =
    [b"REQUEST_URI", b"HTTP_HOST", b"SCRIPT_FILENAME", b"REQUEST_METHOD", b"REMOTE_ADDR"];

/// What of a request may be shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disclosure {
    /// The values in the query string.
    pub query: bool,
    /// The client's address.
    pub client: bool,
}

/// Who handed the request over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// FPM, or php-cgi: FastCGI.
    FastCgi,
    /// apache with mod_php.
    Apache,
    /// PHP's own web server: its URI is the client's.
    BuiltIn,
    /// The command line, or a server that is not known.
    Other,
}

/// A request as it was read.
#[derive(Debug, Default)]
pub struct Raw {
    texts: [Option<Vec<u8>>; NAMES.len()],
    rewritten: bool,
    cut: bool,
    /// The parameters are gone: the request was put away.
    pub put_away: bool,
    /// When apache got it, ns since 1970.
    pub started_wall_ns: Option<u64>,
    /// Bytes that must still be there when the look ends.
    pub witness: Vec<(u64, Vec<u8>)>,
}

/// Reads the request that `globals` (sapi_globals) points to.
pub fn read(remote: &mut Remote, globals: &[u8], server: Server) -> Result<Raw, Reason> {
    let pointer = |at| word(globals, at).unwrap_or(0);
    let context = pointer(sapi::SERVER_CONTEXT);
    let mut raw = match server {
        Server::FastCgi => parameters(remote, context)?,
        Server::Apache => record(remote, context)?,
        Server::BuiltIn | Server::Other => Raw::default(),
    };
    if raw.put_away {
        return Ok(raw);
    }
    if raw.texts[REQUEST_URI].is_none() {
        raw.rewritten = server != Server::BuiltIn;
        raw.fill(remote, REQUEST_URI, pointer(sapi::URI), MAX_TEXT_BYTES)?;
    }
    if raw.texts[REQUEST_METHOD].is_none() {
        raw.fill(remote, REQUEST_METHOD, pointer(sapi::METHOD), METHOD_BYTES)?;
    }
    // The file that PHP runs, where the server and PHP differ.
    raw.fill(remote, SCRIPT_FILENAME, pointer(sapi::PATH_TRANSLATED), MAX_TEXT_BYTES)?;
    Ok(raw)
}

impl Raw {
    /// Takes a C string; what is known stays where there is none.
    fn fill(
        &mut self,
        remote: &mut Remote,
        text: usize,
        address: u64,
        most: usize,
    ) -> Result<(), Reason> {
        if address != 0
            && let Some(bytes) = remote.c_string(address, most)?
        {
            self.cut |= bytes.len() == most;
            self.witness.push((address, bytes[..bytes.len().min(WITNESS_BYTES)].to_vec()));
            self.texts[text] = Some(bytes);
        }
        Ok(())
    }

    /// As it may be shown.
    pub fn disclose(&self, show: Disclosure) -> Request {
        let text = |at: usize| -> Option<Arc<str>> {
            self.texts[at].as_deref().filter(|text| !text.is_empty()).map(lossy)
        };
        let uri = text(REQUEST_URI);
        Request {
            method: text(REQUEST_METHOD),
            uri_rewritten: self.rewritten && uri.is_some(),
            uri: uri.map(|uri| if show.query { uri } else { query::redact(&uri).into() }),
            cut: self.cut,
            host: text(HTTP_HOST),
            script: text(SCRIPT_FILENAME),
            client: text(REMOTE_ADDR).filter(|_| show.client),
            elapsed_ns: None,
        }
    }
}

/// FastCGI parameters: blocks of buckets, the newest block first.
fn parameters(remote: &mut Remote, context: u64) -> Result<Raw, Reason> {
    let mut raw = Raw::default();
    let Some(mut at) = remote.fetch(&[(context.wrapping_add(fcgi::BUCKETS), 8)])?.word(0, 0) else {
        return Ok(raw);
    };
    let mut found = Vec::new();
    for _ in 0..BLOCKS {
        // Pages behind those that are in use were perhaps never touched.
        let head = remote.fetch(&[(at, fcgi::HEAD_BYTES)])?;
        let Some(head) = head.get(0) else { break };
        let used = half(head, 0).map_or(0, |used| used as usize);
        if used == 0 && found.is_empty() {
            raw.put_away = true;
            return Ok(raw);
        }
        if used > fcgi::BLOCK {
            break;
        }
        let first = at.wrapping_add(fcgi::HEAD_BYTES as u64);
        let fetched = remote.fetch(&[(first, used * fcgi::BUCKET_BYTES)])?;
        let buckets = fetched.get(0).unwrap_or_default();
        for (index, bucket) in buckets.chunks_exact(fcgi::BUCKET_BYTES).enumerate() {
            let place = first + (index * fcgi::BUCKET_BYTES) as u64;
            found.extend(candidate(bucket).map(|name| (name, place, bucket.to_vec())));
        }
        match word(head, 8) {
            Some(next) if next != 0 => at = next,
            _ => break,
        }
    }
    found.truncate(4 * NAMES.len());
    let mut places = Vec::new();
    for (name, _, bucket) in &found {
        let length = half(bucket, fcgi::VALUE_LENGTH).map_or(0, |length| length as usize);
        places.push((word(bucket, fcgi::NAME).unwrap_or(0), NAMES[*name].len()));
        places.push((word(bucket, fcgi::VALUE).unwrap_or(0), length.min(MAX_TEXT_BYTES) + 1));
    }
    let fetched = remote.fetch(&places)?;
    for (at, (name, place, bucket)) in found.into_iter().enumerate() {
        let (Some(key), Some(value)) = (fetched.get(2 * at), fetched.get(2 * at + 1)) else {
            continue;
        };
        if key != NAMES[name] || raw.texts[name].is_some() {
            continue;
        }
        let whole = value.len() <= MAX_TEXT_BYTES || value[MAX_TEXT_BYTES] == 0;
        if whole && value.last() != Some(&0) {
            continue;
        }
        raw.cut |= !whole;
        let value = &value[..value.len() - 1];
        raw.texts[name] = Some(value.to_vec());
        let text_at = places[2 * at + 1].0;
        raw.witness.push((place, bucket));
        raw.witness.push((text_at, value[..value.len().min(WITNESS_BYTES)].to_vec()));
    }
    raw.witness.retain(|(_, bytes)| !bytes.is_empty());
    Ok(raw)
}

/// Which name a bucket may be, by its hash and its length.
fn candidate(bucket: &[u8]) -> Option<usize> {
    let (hash, length) = (half(bucket, fcgi::HASH)?, half(bucket, fcgi::NAME_LENGTH)?);
    NAMES.iter().position(|name| name.len() == length as usize && self::hash(name) == hash)
}

/// FCGI_HASH_FUNC of main/fastcgi.c, for names of at least four bytes.
fn hash(name: &[u8]) -> u32 {
    let byte = |at: usize| u32::from(name[at]);
    let length = name.len();
    (byte(3) << 2) + (byte(length - 2) << 4) + (byte(length - 1) << 2) + length as u32
}

/// apache's request_rec: the first line of the request as the client sent it.
fn record(remote: &mut Remote, context: u64) -> Result<Raw, Reason> {
    let mut raw = Raw::default();
    let at = remote.fetch(&[(context.wrapping_add(apache::REQUEST_REC), 8)])?.word(0, 0);
    let fetched = remote.fetch(&[(at.unwrap_or(0), apache::BYTES)])?;
    let (Some(at), Some(record)) = (at, fetched.get(0)) else { return Ok(raw) };
    let line_at = word(record, apache::THE_REQUEST).unwrap_or(0);
    let Some(line) = remote.c_string(line_at, 2 * MAX_TEXT_BYTES)? else { return Ok(raw) };
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(uri)) = (words.next(), words.next()) else { return Ok(raw) };
    raw.cut = uri.len() > MAX_TEXT_BYTES;
    raw.texts[REQUEST_METHOD] = Some(method.to_vec());
    raw.texts[REQUEST_URI] = Some(uri.to_vec());
    raw.witness.push((at + apache::THE_REQUEST as u64, record[apache::THE_REQUEST..].to_vec()));
    raw.witness.push((line_at, line[..line.len().min(WITNESS_BYTES)].to_vec()));
    raw.started_wall_ns =
        word(record, apache::REQUEST_TIME).and_then(|us| us.checked_mul(1000)).filter(|ns| *ns > 0);
    raw.fill(remote, HTTP_HOST, word(record, apache::HOSTNAME).unwrap_or(0), MAX_TEXT_BYTES)?;
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_hash_and_length() {
        for (at, name) in NAMES.iter().enumerate() {
            let mut bucket = [0; fcgi::BUCKET_BYTES];
            bucket[..4].copy_from_slice(&hash(name).to_ne_bytes());
            bucket[4] = name.len() as u8;
            assert_eq!(candidate(&bucket), Some(at));
            bucket[4] += 1;
            assert_eq!(candidate(&bucket), None);
        }
        // As main/fastcgi.c computes it: I << 2, R << 4, I << 2, 11 bytes.
        assert_eq!(hash(b"REQUEST_URI"), (85 << 2) + (82 << 4) + (73 << 2) + 11);
    }

    #[test]
    fn queries_and_clients_are_shown_when_asked_for() {
        let mut raw = Raw::default();
        raw.texts[REQUEST_URI] = Some(b"/a\xff?token=1".to_vec());
        raw.texts[REMOTE_ADDR] = Some(b"192.0.2.7".to_vec());
        let shy = raw.disclose(Disclosure::default());
        assert_eq!((shy.uri.as_deref(), shy.client), (Some("/a\u{fffd}?token=…"), None));
        let open = raw.disclose(Disclosure { query: true, client: true });
        assert_eq!(open.uri.as_deref(), Some("/a\u{fffd}?token=1"));
        assert_eq!(open.client.as_deref(), Some("192.0.2.7"));
    }
}
