//! Text from the raw bytes: as they are, or from zstd frames, told apart by their first bytes.
//! A frame that is damaged is given up, and reading goes on at the next one.

use std::io;

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Largest window of a frame, 8 MiB: that of `zstd -19`. Bounds what a hostile file can make us
/// allocate; frames of the trace file sink need far less.
const WINDOW_LOG_MAX: u32 = 23;
/// Most text from one step.
const STEP_BYTES: usize = 128 << 10;

/// Turns raw bytes into text, step by step.
pub struct Unpacker {
    state: State,
    input: Vec<u8>,
    at: usize,
    offset: u64,
    scratch: Box<[u8]>,
}

enum State {
    Start,
    Plain,
    Zstd {
        decoder: Decoder<'static>,
        in_frame: bool,
    },
    /// A frame was damaged: looking for the next one.
    Lost,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There may be more without further input.
    More,
    /// Further input is needed; at the end of the input nothing is left.
    Starved,
    /// The frame around this byte of the input is damaged; what follows belongs to another one.
    Damaged(u64),
    /// The input ended within a frame.
    Cut(u64),
}

impl Unpacker {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self {
            state: State::Start,
            input: Vec::new(),
            at: 0,
            offset: 0,
            scratch: vec![0; STEP_BYTES].into(),
        }
    }

    /// Whether the input is compressed.
    pub fn is_packed(&self) -> bool {
        matches!(self.state, State::Zstd { .. } | State::Lost)
    }

    /// Adds raw bytes; to be called when a step was starved.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.input.drain(..self.at);
        self.at = 0;
        self.input.extend_from_slice(chunk);
    }

    /// Appends at most [`STEP_BYTES`] to `text`. `end`: nothing more will be fed.
    pub fn step(&mut self, text: &mut Vec<u8>, end: bool) -> io::Result<Step> {
        let input = &self.input[self.at..];
        match &mut self.state {
            State::Start if input.len() < MAGIC.len() && !end => Ok(Step::Starved),
            State::Start => {
                self.state = if is_frame(input) { State::zstd()? } else { State::Plain };
                Ok(Step::More)
            }
            State::Plain => {
                let length = input.len().min(STEP_BYTES);
                text.extend_from_slice(&input[..length]);
                self.advance(length);
                Ok(if length > 0 { Step::More } else { Step::Starved })
            }
            State::Zstd { in_frame, .. } if input.is_empty() => {
                let cut = end && *in_frame;
                *in_frame &= !end;
                Ok(if cut { Step::Cut(self.offset) } else { Step::Starved })
            }
            State::Zstd { decoder, in_frame } => {
                let mut source = InBuffer::around(input);
                let mut target = OutBuffer::around(&mut self.scratch[..]);
                let Ok(hint) = decoder.run(&mut source, &mut target) else {
                    self.state = State::Lost;
                    let offset = self.offset;
                    self.advance(1);
                    return Ok(Step::Damaged(offset));
                };
                *in_frame = hint != 0;
                text.extend_from_slice(target.as_slice());
                let read = source.pos();
                self.advance(read);
                Ok(Step::More)
            }
            State::Lost => match input.windows(MAGIC.len()).position(is_frame) {
                Some(position) => {
                    self.state = State::zstd()?;
                    self.advance(position);
                    Ok(Step::More)
                }
                None => {
                    let passed = input.len().saturating_sub(MAGIC.len() - 1);
                    self.advance(passed);
                    Ok(Step::Starved)
                }
            },
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.at += bytes;
        self.offset += bytes as u64;
    }
}

impl State {
    fn zstd() -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))?;
        Ok(Self::Zstd { decoder, in_frame: false })
    }
}

fn is_frame(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(input: &[u8], chunk: usize) -> (Vec<u8>, Vec<Step>) {
        let mut unpacker = Unpacker::new();
        let (mut text, mut faults) = (Vec::new(), Vec::new());
        let mut chunks = input.chunks(chunk);
        let mut end = false;
        loop {
            match unpacker.step(&mut text, end).unwrap() {
                Step::More => {}
                Step::Starved if end => return (text, faults),
                Step::Starved => match chunks.next() {
                    Some(chunk) => unpacker.feed(chunk),
                    None => end = true,
                },
                fault => faults.push(fault),
            }
        }
    }

    fn frame(text: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(text, 1).unwrap()
    }

    #[test]
    fn frames_follow_each_other_whatever_the_chunks() {
        let input = [frame(b"one\n"), frame(b""), frame(b"two\n")].concat();
        for chunk in 1..input.len() {
            assert_eq!(unpack(&input, chunk), (b"one\ntwo\n".to_vec(), Vec::new()));
        }
    }

    #[test]
    fn plain_text_passes_through() {
        assert_eq!(unpack(b"{}\n", 1), (b"{}\n".to_vec(), Vec::new()));
        assert_eq!(unpack(b"", 1), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_damaged_frame_costs_only_itself() {
        let (one, mut two, three) = (frame(b"one\n"), frame(b"two\n"), frame(b"three\n"));
        two[4] ^= 0xff;
        let input = [one.clone(), two, three].concat();
        let (text, faults) = unpack(&input, 64);
        assert_eq!(text, b"one\nthree\n");
        assert_eq!(faults, [Step::Damaged(one.len() as u64)]);
    }

    #[test]
    fn a_cut_frame_is_told_once() {
        let input = [frame(b"one\n"), frame(b"two\n")].concat();
        let (text, faults) = unpack(&input[..input.len() - 1], 64);
        assert!(text.starts_with(b"one\n"));
        assert_eq!(faults, [Step::Cut(input.len() as u64 - 1)]);
    }

    #[test]
    fn a_window_beyond_the_bound_is_refused() {
        let mut encoder = zstd::stream::raw::Encoder::new(1).unwrap();
        encoder.set_parameter(zstd::stream::raw::CParameter::WindowLog(26)).unwrap();
        let mut packed = Vec::new();
        let mut writer = zstd::stream::zio::Writer::new(&mut packed, encoder);
        io::Write::write_all(&mut writer, &[b'x'; 1024]).unwrap();
        writer.finish().unwrap();
        drop(writer);
        let (text, faults) = unpack(&packed, 64);
        assert_eq!((text.len(), faults[0]), (0, Step::Damaged(0)));
    }
}
