//! Frames: a length (u32, little endian) and that many bytes of JSON. Both ends use this.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::protocol::MAX_FRAME_BYTES;

/// Length of the length.
pub const HEAD_BYTES: usize = 4;

/// A buffer that is larger than this is given back when it is empty.
const KEEP_BYTES: usize = 64 << 10;

/// Why a frame cannot be made or understood.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than the reader takes.
    #[error("a frame of {bytes} bytes, at most {most} are taken")]
    TooLong {
        /// Length of its JSON.
        bytes: usize,
        /// What is taken.
        most: usize,
    },
    /// Not what was expected.
    #[error("a frame that is not understood: {0}")]
    Json(#[from] serde_json::Error),
}

/// Replaces what is in `out` by the frame of `message`.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    out.clear();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    serde_json::to_writer(&mut *out, message)?;
    let bytes = out.len() - HEAD_BYTES;
    if bytes > MAX_FRAME_BYTES {
        out.clear();
        return Err(FrameError::TooLong { bytes, most: MAX_FRAME_BYTES });
    }
    out[..HEAD_BYTES].copy_from_slice(&(bytes as u32).to_le_bytes());
    Ok(())
}

/// Makes frames of what comes in pieces. Holds at most one piece more than the longest frame.
#[derive(Debug)]
pub struct Decoder {
    bytes: Vec<u8>,
    start: usize,
    most: usize,
}

impl Decoder {
    /// Takes frames of up to `most` bytes of JSON.
    pub fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, most }
    }

    /// What came in.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// The next whole frame; None = more has to come in. An error ends the connection: where the next
    /// frame starts is not known any more.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let rest = &self.bytes[self.start..];
        let Some((head, rest)) = rest.split_first_chunk::<HEAD_BYTES>() else {
            self.forget_taken();
            return Ok(None);
        };
        let bytes = u32::from_le_bytes(*head) as usize;
        if bytes > self.most {
            return Err(FrameError::TooLong { bytes, most: self.most });
        }
        let Some(json) = rest.get(..bytes) else {
            self.forget_taken();
            return Ok(None);
        };
        let message = serde_json::from_slice(json)?;
        self.start += HEAD_BYTES + bytes;
        Ok(Some(message))
    }

    fn forget_taken(&mut self) {
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > KEEP_BYTES {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::protocol::Report;

    #[test]
    fn frames_survive_any_cut() {
        let sent = [
            Report::WantMetrics { id: 7 },
            Report::Configured { problems: vec!["é".repeat(50_000)] },
            Report::WantMetrics { id: 8 },
        ];
        let mut frame = Vec::new();
        let mut stream = Vec::new();
        for report in &sent {
            encode(report, &mut frame).unwrap();
            stream.extend_from_slice(&frame);
        }
        for piece in [1, 3, 4, 5, 1000, stream.len()] {
            let mut decoder = Decoder::new(MAX_FRAME_BYTES);
            let mut got = Vec::new();
            for bytes in stream.chunks(piece) {
                decoder.push(bytes);
                while let Some(report) = decoder.take::<Report>().unwrap() {
                    got.push(report);
                }
            }
            assert_eq!(got, sent, "in pieces of {piece}");
            assert_eq!(decoder.bytes.len(), 0);
            assert!(decoder.bytes.capacity() <= KEEP_BYTES);
        }
    }

    #[test]
    fn a_frame_that_is_too_long_or_junk_is_an_error() {
        let mut decoder = Decoder::new(100);
        decoder.push(&101u32.to_le_bytes());
        assert!(matches!(decoder.take::<Report>(), Err(FrameError::TooLong { bytes: 101, .. })));
        let mut decoder = Decoder::new(100);
        decoder.push(&[2, 0, 0, 0, b'{', b'}']);
        assert!(matches!(decoder.take::<Report>(), Err(FrameError::Json(_))));
        let huge = Report::Configured { problems: vec!["x".repeat(MAX_FRAME_BYTES)] };
        assert!(encode(&huge, &mut Vec::new()).is_err());
    }
}
