//! Blocks of a trace: whole lines, at most one second of event time, as they are or packed into one
//! zstd frame. What is cut off or lost is never a part of a block.

use std::io;

use zstd::bulk::Compressor;

use crate::event::Stamped;
use crate::trace::lines::{Encoder, LineError};

/// Most event time in a block, ns.
const BLOCK_NS: u64 = 1_000_000_000;
/// Room for the line that makes a block full.
const LINE_BYTES: usize = 8 << 10;
/// Compresses as fast as the events come; higher levels gain little on such lines.
const ZSTD_LEVEL: i32 = 1;

/// The lines that wait, and the packed block before them that was not written yet.
pub(super) struct Block {
    encoder: Encoder,
    compressor: Option<Compressor<'static>>,
    limit_bytes: usize,
    start_ns: u64,
    text: Vec<u8>,
    packed: Vec<u8>,
}

impl Block {
    /// An empty block that is full at `limit_bytes` of lines.
    pub fn new(limit_bytes: usize, is_compressed: bool) -> io::Result<Self> {
        let compressor = if is_compressed {
            let mut compressor = Compressor::new(ZSTD_LEVEL)?;
            compressor.include_checksum(true)?;
            Some(compressor)
        } else {
            None
        };
        let (text, packed) = (Vec::new(), Vec::new());
        Ok(Self { encoder: Encoder::default(), compressor, limit_bytes, start_ns: 0, text, packed })
    }

    /// Takes the memory that a full block needs, and touches it by packing one. Returns what lines,
    /// packed block and compressor hold then, bytes.
    pub fn prepare(&mut self) -> io::Result<usize> {
        // Nearly all lines are shorter than what comes on top.
        self.text.reserve_exact(self.limit_bytes + LINE_BYTES);
        self.text.resize(self.limit_bytes + LINE_BYTES, b' ');
        self.pack()?;
        self.packed.clear();
        let context = self.compressor.as_mut().map_or(0, |packer| packer.context_mut().sizeof());
        Ok(self.text.capacity() + self.packed.capacity() + context)
    }

    /// Adds a line. False = no reader would take it: it is left out, which is said.
    pub fn push(&mut self, at: &Stamped) -> bool {
        if self.text.is_empty() {
            self.start_ns = at.t_ns;
        }
        match self.encoder.encode(at, &mut self.text) {
            Ok(()) => return true,
            Err(LineError::TooLong) => {
                tracing::warn!("an event is too long for a line and was left out");
            }
            Err(error) => tracing::warn!("an event was left out: {error}"),
        }
        false
    }

    /// Bytes of lines that are not packed.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() && self.packed.is_empty()
    }

    /// No more lines should be added.
    pub fn is_full(&self) -> bool {
        self.text.len() >= self.limit_bytes
    }

    /// It is full, or holds a second.
    pub fn is_due(&self, t_ns: u64) -> bool {
        self.is_full() || (!self.text.is_empty() && t_ns.saturating_sub(self.start_ns) >= BLOCK_NS)
    }

    /// Changes where a block is full.
    pub fn set_limit(&mut self, limit_bytes: usize) {
        self.limit_bytes = limit_bytes;
    }

    /// Where a block becomes full, bytes of lines.
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// The block to write next, packed; the same until [`Block::done`].
    pub fn pack(&mut self) -> io::Result<&[u8]> {
        if self.packed.is_empty() {
            match &mut self.compressor {
                Some(compressor) => {
                    self.packed.reserve(zstd::zstd_safe::compress_bound(self.text.len()));
                    compressor.compress_to_buffer(&self.text[..], &mut self.packed)?;
                    self.text.clear();
                }
                None => std::mem::swap(&mut self.text, &mut self.packed),
            }
        }
        Ok(&self.packed)
    }

    /// The packed block is written, or given up.
    pub fn done(&mut self) {
        self.packed.clear();
        // One line may be many times longer than a block.
        for buffer in [&mut self.text, &mut self.packed] {
            if buffer.capacity() > self.limit_bytes.saturating_mul(2) {
                buffer.shrink_to(self.limit_bytes + LINE_BYTES);
            }
        }
    }
}
