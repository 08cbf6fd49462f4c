//! How the run before ended: read from the last frame of the last segment, and the first one.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::event::{Gap, Header};
use crate::trace::lines::{self, MAX_LINE_BYTES, time_text};

/// Bytes of the end of a file in which its last whole frame is looked for: several of the largest.
const TAIL_BYTES: u64 = 512 << 10;
/// Most text of a frame.
const TEXT_BYTES: u64 = 2 * MAX_LINE_BYTES as u64;
/// Segments that are tried: the last ones may be empty.
const SEGMENTS: usize = 4;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The end of the run before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its last line, ns since 1970.
    pub wall_ns: i64,
    /// The same on CLOCK_BOOTTIME, ns.
    pub t_ns: u64,
    /// Boot that it ran in.
    pub boot_id: String,
    /// It came to its own end; false = it was killed, or the host went down.
    pub clean: bool,
}

impl Previous {
    /// From the last of these segments that can be read; None = nothing was recorded.
    pub(super) fn read(segments: &[(u64, PathBuf)]) -> Option<Self> {
        segments.iter().rev().take(SEGMENTS).find_map(|(_, path)| end_of(path))
    }

    /// The time that nobody recorded, for a run that begins with `header`.
    pub(super) fn gap(&self, header: &Header, t_ns: u64, wall_ns: i64) -> Gap {
        let ns = if header.boot_id == self.boot_id && t_ns >= self.t_ns {
            Some(t_ns - self.t_ns)
        } else {
            u64::try_from(wall_ns.saturating_sub(self.wall_ns)).ok()
        };
        let seconds = ns.map(|ns| ns as f64 / 1e9);
        Gap { since: time_text(self.wall_ns), seconds, clean: self.clean }
    }
}

#[derive(Deserialize)]
struct First {
    #[serde(default)]
    boot_id: String,
}

#[derive(Deserialize)]
struct Reason {
    reason: String,
}

fn end_of(path: &Path) -> Option<Previous> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let tail_bytes = length.min(TAIL_BYTES);
    let mut tail = vec![0; usize::try_from(tail_bytes).ok()?];
    file.read_exact_at(&mut tail, length - tail_bytes).ok()?;
    let text = last_frame(&tail)?;
    let line = text.split(|&byte| byte == b'\n').rfind(|line| !line.is_empty())?;
    let stamp = lines::stamp(line).ok()?;
    let clean = stamp.kind == "end"
        && serde_json::from_slice(line)
            .is_ok_and(|end: Reason| !matches!(&*end.reason, "rotated" | "interrupted"));
    let wall_ns = stamp.wall_ns().ok()?;
    let mut first = Vec::new();
    let frames = zstd::stream::read::Decoder::new(BufReader::new(&file)).ok()?;
    // The position of the file was not moved by what was read at an offset.
    BufReader::new(frames).take(TEXT_BYTES).read_until(b'\n', &mut first).ok()?;
    let First { boot_id } = serde_json::from_slice(&first).ok()?;
    Some(Previous { wall_ns, t_ns: stamp.t, boot_id, clean })
}

/// Text of the last frame in `tail` that is whole.
fn last_frame(tail: &[u8]) -> Option<Vec<u8>> {
    let starts = (0..tail.len()).rev().filter(|&at| tail[at..].starts_with(&MAGIC));
    starts.into_iter().find_map(|at| {
        let frame = zstd::stream::read::Decoder::with_buffer(&tail[at..]).ok()?.single_frame();
        let mut text = Vec::new();
        frame.take(TEXT_BYTES).read_to_end(&mut text).ok()?;
        (!text.is_empty()).then_some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn frame(text: &str) -> Vec<u8> {
        let mut packer = zstd::bulk::Compressor::new(1).unwrap();
        packer.include_checksum(true).unwrap();
        packer.compress(text.as_bytes()).unwrap()
    }

    const HEADER: &str =
        "{\"t\":1,\"time\":\"2026-01-31T12:00:00Z\",\"type\":\"header\",\"boot_id\":\"b\"}\n";

    fn line(t: u64, rest: &str) -> String {
        format!("{{\"t\":{t},\"time\":\"2026-01-31T12:00:0{t}Z\",{rest}}}\n")
    }

    #[test]
    fn the_last_whole_frame_tells_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let start = [frame(HEADER), frame(&line(3, r#""type":"tick""#))].concat();
        let end = |reason: &str| {
            line(5, &format!(r#""type":"end","reason":"{reason}","events":1,"lost":0"#))
        };
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            Previous::read(&[(1, path.clone())]).map(|end| (end.t_ns, end.boot_id, end.clean))
        };
        let told = |t_ns, clean| Some((t_ns, "b".to_owned(), clean));
        assert_eq!(read(&start), told(3, false));
        let whole = [start.clone(), frame(&end("signal"))].concat();
        assert_eq!(read(&whole), told(5, true));
        assert_eq!(read(&[start.clone(), frame(&end("rotated"))].concat()), told(5, false));
        for cut in start.len()..whole.len() {
            assert_eq!(read(&whole[..cut]), told(3, false), "cut at {cut}");
        }
        assert_eq!(read(b""), None);
        assert_eq!(read(b"noise \x28\xb5\x2f\xfd"), None);
        assert_eq!(Previous::read(&[]), None);
    }

    #[test]
    fn a_gap_is_counted_by_the_clock_that_both_runs_share() {
        let previous = Previous {
            wall_ns: 10_000_000_000,
            t_ns: 2_000_000_000,
            boot_id: "b".into(),
            clean: false,
        };
        let header = |boot_id: &str| Header { boot_id: boot_id.to_owned(), ..Header::default() };
        let seconds =
            |boot_id, t_ns, wall_ns| previous.gap(&header(boot_id), t_ns, wall_ns).seconds;
        assert_eq!(seconds("b", 5_000_000_000, 0), Some(3.0));
        assert_eq!(seconds("other", 1, 14_000_000_000), Some(4.0));
        assert_eq!(seconds("other", 1, 0), None);
    }
}
