//! /proc/TGID/status: memory and owner of a process. The kernel escapes the name in it, so no line
//! can be forged.

use super::file::{key_values, number};

/// Memory in bytes; all zero for a process without memory of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Real user id, as this user namespace sees it.
    pub uid: Option<u32>,
    /// RssAnon.
    pub anon_bytes: u64,
    /// RssFile.
    pub file_bytes: u64,
    /// RssShmem.
    pub shmem_bytes: u64,
    /// VmSwap.
    pub swap_bytes: u64,
    /// VmPTE: page tables; 0 = unknown.
    pub page_table_bytes: u64,
    /// VmData: private writable mappings; 0 = unknown.
    pub data_bytes: u64,
    /// VmHWM: the highest resident set so far; 0 = unknown.
    pub peak_bytes: u64,
    /// VmRSS was there: the task has an address space.
    pub has_memory: bool,
}

impl Status {
    /// Takes the file apart; a field that is missing or odd stays at its default.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut status = Self::default();
        for (key, value) in key_values(bytes) {
            let bytes = value.saturating_mul(1024);
            match key {
                b"Uid" => status.uid = u32::try_from(value).ok(),
                b"RssAnon" => status.anon_bytes = bytes,
                b"RssFile" => status.file_bytes = bytes,
                b"RssShmem" => status.shmem_bytes = bytes,
                b"VmSwap" => status.swap_bytes = bytes,
                b"VmPTE" => status.page_table_bytes = bytes,
                b"VmData" => status.data_bytes = bytes,
                b"VmHWM" => status.peak_bytes = bytes,
                b"VmRSS" => status.has_memory = true,
                _ => {}
            }
        }
        status
    }
}

/// Effective capabilities, one bit each, from the `CapEff` line.
pub fn effective_capabilities(bytes: &[u8]) -> Option<u64> {
    let line = bytes.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"CapEff:"))?;
    u64::from_str_radix(std::str::from_utf8(line).ok()?.trim(), 16).ok()
}

/// Online CPUs of a list like `0-3,8` (/sys/devices/system/cpu/online).
pub fn count_cpus(list: &str) -> Option<u32> {
    let mut count = 0_u64;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (number(first.as_bytes())?, number(last.as_bytes())?);
        count = count.saturating_add(last.checked_sub(first)?.saturating_add(1));
    }
    u32::try_from(count).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &[u8] = b"Name:\tphp\\nUid: 9\nUmask:\t0022\nState:\tS (sleeping)\nUid:\t33\t0\t33\t33\n\
        VmPeak:\t  250000 kB\nVmHWM:\t   90000 kB\nVmRSS:\t   80000 kB\nRssAnon:\t   50000 kB\n\
        RssFile:\t   20000 kB\nRssShmem:\t   10000 kB\nVmData:\t   70000 kB\nVmPTE:\t     320 kB\nVmSwap:\t       7 kB\nCapEff:\t000001fffeffffff\n";

    #[test]
    fn reads_memory_and_owner() {
        let expected = Status {
            uid: Some(33),
            anon_bytes: 50_000 << 10,
            file_bytes: 20_000 << 10,
            shmem_bytes: 10_000 << 10,
            swap_bytes: 7 << 10,
            page_table_bytes: 320 << 10,
            data_bytes: 70_000 << 10,
            peak_bytes: 90_000 << 10,
            has_memory: true,
        };
        assert_eq!(Status::parse(STATUS), expected);
    }

    #[test]
    fn odd_lines_leave_defaults() {
        let odd = b"RssAnon: many kB\nRssFile:\nVmSwap: 18446744073709551615 kB\nUid: 4294967296";
        let expected = Status { swap_bytes: u64::MAX, ..Status::default() };
        assert_eq!(Status::parse(odd), expected);
        assert_eq!(Status::parse(b""), Status::default());
    }

    #[test]
    fn reads_capabilities_and_cpus() {
        assert_eq!(effective_capabilities(STATUS), Some(0x1ff_feff_ffff));
        assert_eq!(effective_capabilities(b"CapEff:\tzz\n"), None);
        assert_eq!(count_cpus("0-3,8,10-11\n"), Some(7));
        assert_eq!(count_cpus("0"), Some(1));
        assert_eq!(count_cpus("3-1"), None);
        assert_eq!(count_cpus(""), None);
    }
}
