//! Decodes the kernel's records: kind and length are checked, nothing else is trusted.

use std::mem::size_of;

use tracer_ebpf::{
    CgroupPathRecord, CgroupRecord, OomRecord, PhpStackRecord, ProcessRecord, SignalRecord,
    StallRecord, kind,
};

/// One decoded record.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "lives on the stack for one step of the decoder")]
pub enum Record {
    /// GROWTH, SWEEP, FORK, EXEC, EXIT, REQUEST_BEGIN or REQUEST_END.
    Process(ProcessRecord),
    /// The OOM killer marked a thread.
    Oom(OomRecord),
    /// SIGKILL or SIGTERM.
    Signal(SignalRecord),
    /// Stall in reclaim.
    Stall(StallRecord),
    /// Charge of a memory cgroup.
    Cgroup(CgroupRecord),
    /// A cgroup was made or removed, or a process moved.
    CgroupPath(CgroupPathRecord),
    /// Where PHP was when a suspect grew.
    PhpStack(PhpStackRecord),
}

/// A record that does not fit the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record of kind {kind} with {length} bytes does not fit the ABI")]
pub struct BadRecord {
    /// Its kind.
    pub kind: u32,
    /// Its length.
    pub length: usize,
}

impl Record {
    /// Decodes one record.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let kind = bytes.first_chunk().map_or(0, |kind| u32::from_ne_bytes(*kind));
        let decoded = match kind {
            kind::GROWTH
            | kind::SWEEP
            | kind::FORK
            | kind::EXEC
            | kind::EXIT
            | kind::REQUEST_BEGIN
            | kind::REQUEST_END => plain(bytes).map(Self::Process),
            kind::OOM => plain(bytes).map(Self::Oom),
            kind::SIGNAL => plain(bytes).map(Self::Signal),
            kind::STALL => plain(bytes).map(Self::Stall),
            kind::CGROUP => plain(bytes).map(Self::Cgroup),
            kind::CGROUP_PATH | kind::CGROUP_MOVE => plain(bytes).map(Self::CgroupPath),
            kind::PHP_STACK => plain(bytes).map(Self::PhpStack),
            _ => None,
        };
        decoded.ok_or(BadRecord { kind, length: bytes.len() })
    }

    /// When it was made, CLOCK_BOOTTIME ns.
    pub fn t_ns(&self) -> u64 {
        match self {
            Self::Process(record) => record.head.t_ns,
            Self::Oom(record) => record.head.t_ns,
            Self::Signal(record) => record.head.t_ns,
            Self::Stall(record) => record.head.t_ns,
            Self::Cgroup(record) => record.head.t_ns,
            Self::CgroupPath(record) => record.head.t_ns,
            Self::PhpStack(record) => record.head.t_ns,
        }
    }
}

/// Structs of the ABI: integers and arrays of them without implicit padding.
trait Plain: Copy {}
impl Plain for ProcessRecord {}
impl Plain for OomRecord {}
impl Plain for SignalRecord {}
impl Plain for StallRecord {}
impl Plain for CgroupRecord {}
impl Plain for CgroupPathRecord {}
impl Plain for PhpStackRecord {}

fn plain<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: the length fits, any bytes are a valid `Plain`, and the read needs no alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer_ebpf::{Head, Memory};

    fn bytes_of<T: Plain>(record: &T) -> Vec<u8> {
        // SAFETY: a `Plain` has no padding, so that all its bytes are initialised.
        unsafe { std::slice::from_raw_parts((&raw const *record).cast(), size_of::<T>()) }.to_vec()
    }

    #[test]
    fn round_trip_and_wrong_lengths() {
        let record = ProcessRecord {
            head: Head { kind: kind::GROWTH, cpu: 3, t_ns: 7 },
            memory: Memory { anon_bytes: 4096, ..Memory::default() },
            ..ProcessRecord::default()
        };
        let bytes = bytes_of(&record);
        assert!(matches!(Record::decode(&bytes), Ok(Record::Process(got)) if got == record));
        for length in 0..bytes.len() {
            assert!(Record::decode(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(
            Record::decode(&longer).unwrap_err(),
            BadRecord { kind: kind::GROWTH, length: bytes.len() + 1 }
        );
        let mut unknown = bytes;
        unknown[0] = 99;
        assert_eq!(Record::decode(&unknown).unwrap_err().kind, 99);
    }
}
