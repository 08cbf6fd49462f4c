//! The journal, by journald's native protocol: one datagram of fields for each alert.
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rampage::event::{FindingKind, FindingState, Severity};
use rampage::text;
use serde::Serialize;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::receiver::{Deliver, Outcome, Told};

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// The journal is of this host: it is back soon or not at all.
pub const GIVE_UP: Duration = Duration::from_secs(60);

/// A journald that takes nothing for this long is busy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longer evidence is left out, bytes: a datagram holds no more than the socket's buffer, 208 KiB.
const MAX_EVIDENCE_BYTES: usize = 64 << 10;

/// Longest other field, bytes.
const MAX_FIELD_BYTES: usize = 8 << 10;

/// The journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Journal {
    /// Of the journald that listens at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, socket: None }
    }

    /// Why nothing can be written.
    pub fn problem(path: &Path) -> Option<String> {
        (!path.exists()).then(|| {
            format!(
                "there is no journald at {}: alerts for the journal are lost; set alerts.journal = false",
                path.display()
            )
        })
    }

    async fn send(&mut self, fields: &[u8]) -> io::Result<()> {
        if self.socket.is_none() {
            // Connected, so that a full queue of journald can be waited for.
            let socket = UnixDatagram::unbound()?;
            socket.connect(&self.path)?;
            self.socket = Some(socket);
        }
        let Some(socket) = &self.socket else { return Err(io::ErrorKind::NotConnected.into()) };
        timeout(PATIENCE, socket.send(fields)).await?.map(drop)
    }
}

impl Deliver for Journal {
    async fn deliver(&mut self, told: &Told) -> Outcome {
        match self.send(&fields(told)).await {
            Ok(()) => Outcome::Delivered,
            Err(error) => {
                self.socket = None;
                match error.kind() {
                    io::ErrorKind::NotFound => Outcome::refused(error),
                    // EMSGSIZE
                    _ if error.raw_os_error() == Some(90) => Outcome::refused(error),
                    _ => Outcome::again(error),
                }
            }
        }
    }
}

/// The kind of a finding as journald finds it again: `journalctl MESSAGE_ID=…`.
pub fn message_id(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Runaway => "d17fd912c5be48198c9c9b17171d0fca",
        FindingKind::MemoryLimit => "6d6f97025fd0400cb6c0ef9d842f9826",
        FindingKind::Pool => "80555e390da840fbad23732263658635",
        FindingKind::PoolTooLarge => "5e81415b904a4a6d99203e4afe8d5940",
        FindingKind::Leak => "0e17c9cbc41c4694bc8315a169b9740d",
        FindingKind::OomVerdict => "7cad395c80fb49afa05c67b09657547b",
        FindingKind::Killed => "a4732cd7b08944a4be5a8f64fe0fe8e2",
        FindingKind::Cascade => "13b8c89bb75d43fba013f938e6d524f4",
        FindingKind::Pressure => "4b96e7e1b2b84bcf9460fae6eacf59a8",
    }
}

/// The name that something has in JSON.
pub fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn fields(told: &Told) -> Vec<u8> {
    let finding = &told.alert.finding;
    let priority = match (finding.state, finding.severity) {
        (FindingState::Closed, _) | (_, Severity::Info) => "6",
        (_, Severity::Warning) => "4",
        (_, Severity::Critical) => "2",
    };
    let mut out = Vec::with_capacity(2048);
    field(&mut out, "MESSAGE", &text::printable(&finding.summary));
    field(&mut out, "PRIORITY", priority);
    field(&mut out, "SYSLOG_IDENTIFIER", "rampage");
    field(&mut out, "MESSAGE_ID", message_id(finding.kind));
    field(&mut out, "RAMPAGE_KIND", &word(&finding.kind));
    field(&mut out, "RAMPAGE_STATE", &word(&finding.state));
    field(&mut out, "RAMPAGE_SEVERITY", &word(&finding.severity));
    field(&mut out, "RAMPAGE_FINDING_ID", &finding.id.to_string());
    if let Some(subject) = &finding.subject {
        field(&mut out, "RAMPAGE_TGID", &subject.tgid.to_string());
        field(&mut out, "RAMPAGE_COMM", &subject.comm);
        if let Some(pool) = &subject.pool {
            field(&mut out, "RAMPAGE_POOL", pool);
        }
        if let Some(cgroup) = &subject.cgroup {
            field(&mut out, "RAMPAGE_CGROUP", cgroup);
        }
    }
    match serde_json::to_string(&finding.evidence) {
        Ok(evidence) if evidence.len() <= MAX_EVIDENCE_BYTES => {
            append(&mut out, "RAMPAGE_EVIDENCE", &evidence);
        }
        _ => field(&mut out, "RAMPAGE_EVIDENCE_OMITTED", "too long"),
    }
    out
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    append(out, name, &value[..value.floor_char_boundary(MAX_FIELD_BYTES)]);
}

/// Always in the form with a length: no value can end its field.
fn append(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::{finding, told};

    #[test]
    fn a_hostile_name_stays_in_its_field() {
        let mut finding = finding(3, Severity::Critical, FindingState::Raised);
        if let Some(subject) = &mut finding.subject {
            subject.comm = "evil\nPRIORITY=0\n".into();
        }
        let fields = fields(&told(finding));
        let mut rest = &fields[..];
        let mut read = Vec::new();
        while !rest.is_empty() {
            let name = rest.iter().position(|&byte| byte == b'\n').unwrap();
            let (head, tail) = rest.split_at(name + 1);
            let (length, tail) = tail.split_first_chunk::<8>().unwrap();
            let length = u64::from_le_bytes(*length) as usize;
            assert_eq!(tail[length], b'\n');
            let value = String::from_utf8(tail[..length].to_vec()).unwrap();
            read.push((String::from_utf8(head[..name].to_vec()).unwrap(), value));
            rest = &tail[length + 1..];
        }
        let value = |name: &str| {
            let mut found = read.iter().filter(|(key, _)| key == name);
            let value = found.next().map(|(_, value)| value.as_str());
            assert!(found.next().is_none(), "{name} twice");
            value
        };
        assert_eq!(value("PRIORITY"), Some("2"));
        assert_eq!(value("RAMPAGE_COMM"), Some("evil\nPRIORITY=0\n"));
        assert_eq!(value("RAMPAGE_KIND"), Some("pressure"));
        assert_eq!(value("MESSAGE_ID"), Some(message_id(FindingKind::Pressure)));
        assert_eq!(value("RAMPAGE_POOL"), Some("www"));
        assert!(value("RAMPAGE_EVIDENCE").unwrap().starts_with('{'));
    }
}
