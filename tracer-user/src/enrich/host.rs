//! The host as a whole: memory and PSI each interval, and what a trace's header says of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::file::{self, key_values};
use super::{Malformed, status};
use crate::event::{Config, Header, Pressure, SCHEMA};

/// /proc/meminfo, what is needed of it; bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemInfo {
    /// MemTotal.
    pub total_bytes: u64,
    /// MemAvailable.
    pub available_bytes: u64,
    /// SwapTotal.
    pub swap_total_bytes: u64,
    /// SwapFree.
    pub swap_free_bytes: u64,
    /// Shmem; None = this kernel does not tell.
    pub shmem_bytes: Option<u64>,
}

impl MemInfo {
    /// Takes the file apart.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut info = Self::default();
        let mut available = None;
        for (key, kib) in key_values(bytes) {
            let bytes = kib.saturating_mul(1024);
            match key {
                b"MemTotal" => info.total_bytes = bytes,
                b"MemAvailable" => available = Some(bytes),
                b"SwapTotal" => info.swap_total_bytes = bytes,
                b"SwapFree" => info.swap_free_bytes = bytes,
                b"Shmem" => info.shmem_bytes = Some(bytes),
                _ => {}
            }
        }
        let missing = |field| Malformed { file: "/proc/meminfo", field };
        if info.total_bytes == 0 {
            return Err(missing("MemTotal"));
        }
        info.available_bytes = available.ok_or(missing("MemAvailable"))?;
        Ok(info)
    }
}

/// Reads the host's memory and PSI from files that stay open.
#[derive(Debug)]
pub struct HostReader {
    meminfo: File,
    psi: Option<File>,
}

impl HostReader {
    /// Opens /proc/meminfo, and /proc/pressure/memory where there is one.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            meminfo: File::open("/proc/meminfo")?,
            psi: File::open("/proc/pressure/memory").ok(),
        })
    }

    /// /proc/meminfo now.
    pub fn memory(&self) -> io::Result<MemInfo> {
        let mut buffer = [0; 4096];
        let length = self.meminfo.read_at(&mut buffer, 0)?;
        Ok(MemInfo::parse(&buffer[..length])?)
    }

    /// The `pressure` event of the host.
    pub fn pressure(&self) -> io::Result<Pressure> {
        let memory = self.memory()?;
        let mut buffer = [0; 512];
        let length = self.psi.as_ref().and_then(|file| file.read_at(&mut buffer, 0).ok());
        let (some_avg10, full_avg10) = parse_pressure(&buffer[..length.unwrap_or(0)]);
        Ok(Pressure {
            scope: "host".into(),
            used_bytes: memory.total_bytes.saturating_sub(memory.available_bytes),
            limit_bytes: Some(memory.total_bytes),
            available_bytes: Some(memory.available_bytes),
            swap_free_bytes: Some(memory.swap_free_bytes),
            shmem_bytes: memory.shmem_bytes,
            some_avg10,
            full_avg10,
        })
    }
}

/// `some` and `full` over 10 s of a PSI file, percent; None = not there.
pub fn parse_pressure(bytes: &[u8]) -> (Option<f64>, Option<f64>) {
    let average = |kind: &str| {
        std::str::from_utf8(bytes)
            .ok()?
            .lines()
            .find_map(|line| line.strip_prefix(kind))?
            .split_whitespace()
            .find_map(|word| word.strip_prefix("avg10="))?
            .parse()
            .ok()
            .filter(|percent| (0.0..=100.0).contains(percent))
    };
    (average("some "), average("full "))
}

/// The header of a trace of this host. What could not be read is empty or 0; `hooks` is left to
/// the source.
pub fn header(config: &Config, source: &str) -> Header {
    let word = |path: &str| file::read_word(path).unwrap_or_default();
    let memory = HostReader::open().and_then(|reader| reader.memory()).unwrap_or_default();
    Header {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config: config.clone(),
        kernel: word("/proc/sys/kernel/osrelease"),
        arch: machine(),
        hostname: word("/proc/sys/kernel/hostname"),
        boot_id: word("/proc/sys/kernel/random/boot_id"),
        page_bytes: page_bytes().unwrap_or(0),
        cpus: online_cpus(),
        mem_total_bytes: memory.total_bytes,
        swap_total_bytes: memory.swap_total_bytes,
        source: source.to_owned(),
        hooks: Vec::new(),
        segment: None,
        gap: None,
    }
}

/// `uname -m`; before 6.1 the architecture that rampage was built for.
pub fn machine() -> String {
    file::read_word("/proc/sys/kernel/arch").unwrap_or_else(|_| std::env::consts::ARCH.to_owned())
}

/// Online CPUs; 0 = unknown.
pub fn online_cpus() -> u32 {
    let list = file::read_word("/sys/devices/system/cpu/online");
    list.ok().and_then(|list| status::count_cpus(&list)).unwrap_or(0)
}

/// Bytes of a page, from the auxiliary vector (AT_PAGESZ); None = unknown.
pub fn page_bytes() -> Option<u64> {
    const AT_PAGESZ: u64 = 6;
    let mut buffer = [0; 1024];
    let words = file::read(Path::new("/proc/self/auxv"), &mut buffer).ok()?;
    let native = |bytes: &[u8]| Some(usize::from_ne_bytes(bytes.try_into().ok()?) as u64);
    let size = size_of::<usize>();
    words
        .chunks_exact(2 * size)
        .find(|pair| native(&pair[..size]) == Some(AT_PAGESZ))
        .and_then(|pair| native(&pair[size..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_meminfo() {
        let text = b"MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\nSwapTotal: 50 kB\n\
                     SwapFree: 20 kB\nShmem: 30 kB\nHugePages_Total: 0\n";
        let expected = MemInfo {
            total_bytes: 1000 << 10,
            available_bytes: 400 << 10,
            swap_total_bytes: 50 << 10,
            swap_free_bytes: 20 << 10,
            shmem_bytes: Some(30 << 10),
        };
        assert_eq!(MemInfo::parse(text), Ok(expected));
        assert_eq!(MemInfo::parse(b"").unwrap_err().field, "MemTotal");
        assert_eq!(MemInfo::parse(b"MemTotal: 4 kB").unwrap_err().field, "MemAvailable");
    }

    #[test]
    fn reads_pressure() {
        let text = b"some avg10=2.04 avg60=0.75 avg300=0.40 total=157622151\n\
                     full avg10=1.00 avg60=0.61 avg300=0.32 total=137283\n";
        assert_eq!(parse_pressure(text), (Some(2.04), Some(1.0)));
        assert_eq!(parse_pressure(b"some avg10=0.00\n"), (Some(0.0), None));
        for odd in [&b""[..], b"some avg10=NaN", b"some avg10=inf", b"some avg10=-1", b"some \xff"]
        {
            assert_eq!(parse_pressure(odd), (None, None));
        }
    }

    #[test]
    fn describes_this_host() {
        let header = header(&Config::default(), "procfs");
        assert_eq!((&*header.schema, &*header.source), (SCHEMA, "procfs"));
        assert!(header.page_bytes.is_power_of_two() && header.page_bytes >= 4096);
        assert!(header.cpus >= 1 && header.mem_total_bytes > 0);
        assert_eq!(header.boot_id.len(), 36);
        assert!(!header.kernel.is_empty() && !header.arch.is_empty());
        let pressure = HostReader::open().unwrap().pressure().unwrap();
        assert_eq!(pressure.limit_bytes, Some(header.mem_total_bytes));
        assert!(pressure.used_bytes < header.mem_total_bytes);
    }
}
