//! /proc/TGID/stat: state, parent, faults and start of a process. The name in it is raw and may
//! hold blanks, parentheses and newlines.

use super::Malformed;
use super::file::number;
use crate::event::ProcessKey;

/// Bit of the flags that marks a kernel thread (PF_KTHREAD, include/linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Nanoseconds of a clock tick in /proc: USER_HZ is 100 on every machine that Linux has BPF for.
const TICK_NS: u64 = 10_000_000;

/// One look at a process. Numbers are of the whole thread group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat<'a> {
    /// Process id.
    pub tgid: u32,
    /// Name of the leader, raw.
    pub comm: &'a [u8],
    /// State of the leader, `R`, `S`, `Z` …
    pub state: u8,
    /// Parent's tgid.
    pub ppid: u32,
    /// It has no memory of its own.
    pub kernel_thread: bool,
    /// Minor faults, dead threads included.
    pub minor_faults: u64,
    /// Major faults, likewise.
    pub major_faults: u64,
    /// Threads, the leader included.
    pub threads: u64,
    /// Start, CLOCK_BOOTTIME ns, a multiple of 10 ms.
    pub start_ns: u64,
    /// Resident pages, approximate.
    pub rss_pages: u64,
    /// Address of the stack's bottom: kept over fork, drawn anew by exec. 0 = may not be seen.
    pub start_stack: u64,
}

impl<'a> Stat<'a> {
    /// Takes one line apart.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let missing = |field| Malformed { file: "/proc/TGID/stat", field };
        let open = bytes.iter().position(|byte| *byte == b'(').ok_or(missing("comm"))?;
        let close = bytes.iter().rposition(|byte| *byte == b')').ok_or(missing("comm"))?;
        let comm = bytes.get(open + 1..close).ok_or(missing("comm"))?;
        let tgid = number(bytes[..open].trim_ascii());
        let mut words = bytes[close + 1..].split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
        let state = words.next().and_then(|word| word.first().copied()).ok_or(missing("state"))?;
        // Fields 4 to 28 of proc_pid_stat(5); tpgid, rss and the like may be negative.
        let mut fields = [None; 25];
        for (field, word) in fields.iter_mut().zip(words) {
            *field = number(word);
        }
        let field = |position: usize, name| fields[position - 4].ok_or(missing(name));
        let id = |value: Option<u64>, name| {
            value.and_then(|value| u32::try_from(value).ok()).ok_or(missing(name))
        };
        Ok(Self {
            tgid: id(tgid, "pid")?,
            comm,
            state,
            ppid: id(fields[0], "ppid")?,
            kernel_thread: field(9, "flags")? & KERNEL_THREAD != 0,
            minor_faults: field(10, "minflt")?,
            major_faults: field(12, "majflt")?,
            threads: field(20, "num_threads")?,
            start_ns: field(22, "starttime")?.saturating_mul(TICK_NS),
            rss_pages: fields[24 - 4].unwrap_or(0),
            start_stack: fields[28 - 4].unwrap_or(0),
        })
    }

    /// Identity.
    pub fn key(&self) -> ProcessKey {
        ProcessKey { tgid: self.tgid, start_ns: self.start_ns }
    }

    /// The leader has ended; other threads may live on.
    pub fn leader_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// All threads have ended: there is no memory any more, only an exit status to be fetched.
    pub fn ended(&self) -> bool {
        self.leader_ended() && self.threads <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "S 812 4711 4711 0 -1 4194624 1234 55 7 0 10 3 0 0 20 0 3 0 98765 234881024 \
                        9000 18446744073709551615 94000 95000 140732 0 0 0 0 4096 17 0 0 0 17 1\n";

    fn line(comm: &str) -> String {
        format!("4711 ({comm}) {TAIL}")
    }

    #[test]
    fn reads_every_field() {
        let line = line("php-fpm8.2");
        let stat = Stat::parse(line.as_bytes()).unwrap();
        let expected = Stat {
            tgid: 4711,
            comm: b"php-fpm8.2",
            state: b'S',
            ppid: 812,
            kernel_thread: false,
            minor_faults: 1234,
            major_faults: 7,
            threads: 3,
            start_ns: 987_650_000_000,
            rss_pages: 9000,
            start_stack: 140_732,
        };
        assert_eq!(stat, expected);
        assert!(!stat.leader_ended());
    }

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        for comm in ["a b c", ") R 1 (", "x) S 1 1 1", "new\nline", "((", "))", "", "\u{1b}[2J"] {
            let line = line(comm);
            let stat = Stat::parse(line.as_bytes()).unwrap();
            assert_eq!((stat.comm, stat.ppid), (comm.as_bytes(), 812), "{comm:?}");
        }
        let mut raw = line("??").into_bytes();
        raw[6..8].copy_from_slice(b"\xff\xfe");
        assert_eq!(Stat::parse(&raw).unwrap().comm, b"\xff\xfe");
    }

    #[test]
    fn says_what_is_missing() {
        let field = |bytes: &[u8]| Stat::parse(bytes).unwrap_err().field;
        assert_eq!(field(b""), "comm");
        assert_eq!(field(b") ("), "comm");
        assert_eq!(field(b"1 (x)"), "state");
        assert_eq!(field(b"1 (x) S"), "ppid");
        assert_eq!(field(b"4294967296 (x) S 1 1 1 1 1 1 1 1 1"), "pid");
        assert_eq!(field(b"1 (x) S 1 1 1 1 1 0"), "minflt");
        let whole = line("x");
        for cut in 0..whole.len() {
            let _ = Stat::parse(&whole.as_bytes()[..cut]);
        }
    }

    #[test]
    fn tells_threads_of_the_kernel_and_the_dead() {
        let kernel =
            Stat::parse(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 4 0 0");
        assert!(kernel.unwrap().kernel_thread);
        let dead = "9 (x) Z 1 9 9 0 -1 4228364 9 0 0 0 0 0 0 0 20 0 THREADS 0 4 0 0";
        let parse = |threads: &str| {
            let line = dead.replace("THREADS", threads);
            let stat = Stat::parse(line.as_bytes()).unwrap();
            (stat.leader_ended(), stat.ended())
        };
        assert_eq!(parse("1"), (true, true));
        assert_eq!(parse("2"), (true, false));
    }
}
