//! The files of a run that is recorded in several: `00000042-2026-11-28T03-12-09.123Z.jsonl.zst`. The
//! number alone gives their order, whatever the clock did; the time is for those who look at them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::lines::time_text;

const EXTENSION: &str = ".jsonl.zst";
/// Digits of a number; larger ones have more.
const DIGITS: usize = 8;
/// Files of a folder that are looked at; a folder of a recorder never has as many.
const MOST: usize = 100_000;

/// Name of segment `number`, which begins at `wall_ns`.
pub fn name(number: u64, wall_ns: i64) -> String {
    format!("{number:0DIGITS$}-{}{EXTENSION}", time_text(wall_ns).replace(':', "-"))
}

/// The number in a name; None = it is no segment's.
pub fn number(name: &str) -> Option<u64> {
    let (digits, time) = name.strip_suffix(EXTENSION)?.split_once('-')?;
    let is_number = digits.len() >= DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && !time.is_empty()).then(|| digits.parse().ok()).flatten()
}

/// Segments in a folder, in order. Other files are passed over.
pub fn list(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder)?.take(MOST) {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(number) {
            segments.push((number, entry.path()));
        }
    }
    segments.sort();
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_and_others_are_no_segments() {
        let name = name(42, 1_764_299_529_123_456_789);
        assert_eq!(name, "00000042-2025-11-28T03-12-09.123Z.jsonl.zst");
        assert_eq!(number(&name), Some(42));
        assert_eq!(number(&super::name(123_456_789, 0)), Some(123_456_789));
        for other in
            ["", "x.jsonl.zst", "1-2.jsonl.zst", "00000042.jsonl.zst", "+0000042-x.jsonl.zst"]
        {
            assert_eq!(number(other), None, "{other}");
        }
        assert_eq!(number(&format!("{name}.1")), None);
    }
}
