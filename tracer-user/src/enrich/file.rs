//! Bounded reading of kernel files into buffers that the caller owns, and the pieces that their
//! parsers share. No allocation: this runs on hosts that have no memory left.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Enough for every file that is read here; memory.stat of 6.18 has under 3 KiB.
pub const BUFFER_BYTES: usize = 8192;

/// Reads from the start of `path` until `buffer` is full or the file ends. A file that is longer
/// is cut.
pub fn read<'a>(path: impl AsRef<Path>, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut file = File::open(path)?;
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(&buffer[..filled])
}

/// [`read`] for files made of lines: of a file that was cut, only whole lines are returned, so
/// that no number is read half.
pub fn read_lines<'a>(path: impl AsRef<Path>, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let capacity = buffer.len();
    let bytes = read(path, buffer)?;
    Ok(if bytes.len() < capacity { bytes } else { whole_lines(bytes) })
}

/// The first line of `path` as text without surrounding blanks, at most 256 bytes.
pub fn read_word(path: impl AsRef<Path>) -> io::Result<String> {
    let mut buffer = [0; 256];
    let bytes = read(path, &mut buffer)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).trim().to_owned())
}

fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    &bytes[..end]
}

/// A decimal number with nothing around it.
pub fn number(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Lines of `key value …`: the key (without a colon behind it) and the first value, if that is a
/// number.
pub fn key_values(bytes: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let key = words.next()?;
        Some((key.strip_suffix(b":").unwrap_or(key), number(words.next()?)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_cut_after_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stat");
        std::fs::write(&path, "anon 12\nfile 3456\n").unwrap();
        let mut buffer = [0; 12];
        assert_eq!(read(&path, &mut buffer).unwrap(), b"anon 12\nfile");
        assert_eq!(read_lines(&path, &mut buffer).unwrap(), b"anon 12\n");
        assert_eq!(read_lines(&path, &mut [0; 4]).unwrap(), b"");
        assert_eq!(read_lines(&path, &mut [0; 64]).unwrap(), b"anon 12\nfile 3456\n");
        assert_eq!(read_word(&path).unwrap(), "anon 12");
    }

    #[test]
    fn odd_lines_are_passed_over() {
        let bytes =
            b"MemTotal:   24 kB\n\nnonsense\nneg -3\nhuge 18446744073709551616\n\xff\xfe 7\nlast 9";
        let pairs: Vec<_> = key_values(bytes).collect();
        assert_eq!(pairs, [(&b"MemTotal"[..], 24), (b"\xff\xfe", 7), (b"last", 9)]);
    }
}
