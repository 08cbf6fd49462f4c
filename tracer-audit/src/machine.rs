//! The memory of the audited host, from proc/meminfo.

use std::path::Path;

use crate::origin::Notes;
use crate::root::Root;

/// Memory and swap, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Zero where it is not known.
    pub total_bytes: u64,
    /// The kernel's estimate of what can be had without swapping.
    pub available_bytes: u64,
    /// Size of all swap.
    pub swap_total_bytes: u64,
    /// What is left of it.
    pub swap_free_bytes: u64,
}

impl Machine {
    /// From proc/meminfo; nothing is known where there is none, and that is said.
    pub fn read(root: &Root, notes: &mut Notes) -> Self {
        match root.text(Path::new("/proc/meminfo")) {
            Ok(text) => Self::parse(&text),
            Err(error) => {
                notes.say(format!("how much memory there is, is not known: {error}"));
                Self::default()
            }
        }
    }

    fn parse(text: &str) -> Self {
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib: Option<u64> =
                line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            kib.unwrap_or(0).saturating_mul(1024)
        };
        Self {
            total_bytes: bytes("MemTotal"),
            available_bytes: bytes("MemAvailable"),
            swap_total_bytes: bytes("SwapTotal"),
            swap_free_bytes: bytes("SwapFree"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let text =
            "MemTotal:       16384 kB\nMemAvailable: 99 kB\nSwapTotal: 10 kB\nSwapFree: x kB\n";
        let machine = Machine::parse(text);
        assert_eq!(
            machine,
            Machine {
                total_bytes: 16 << 20,
                available_bytes: 99 << 10,
                swap_total_bytes: 10 << 10,
                swap_free_bytes: 0,
            }
        );
        let mut notes = Notes::default();
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(
            Machine::read(&Root::new(nothing.path()).unwrap(), &mut notes),
            Machine::default()
        );
        assert_eq!(notes.finish().len(), 1);
    }
}
