//! The way from the pipeline to the writer's thread: a ring of bytes that is taken once, written and
//! read without locks. What does not fit is refused; nobody waits.

use rtrb::chunks::ReadChunk;
use rtrb::{Consumer, Producer, RingBuffer};

/// Bytes that may wait: packed lines, some 10 MiB of text, which is a minute of a busy host whose disk
/// does not answer.
pub(super) const RING_BYTES: usize = 1 << 20;
/// Kept free by blocks for what tells of kills and findings.
const RESERVE_BYTES: usize = 128 << 10;
const HEAD_BYTES: usize = 34;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A block of the current segment.
    Block = 1,
    /// A segment begins; what follows belongs to it.
    Segment = 2,
    /// The header of the run, a line.
    Header = 3,
    /// A finding, a line.
    Finding = 4,
    /// An `oom` event, a line.
    Kill = 5,
}

/// Stands before the payload of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub kind: Kind,
    /// To be on the disk at once.
    pub is_urgent: bool,
    /// Events in a block.
    pub events: u32,
    /// CLOCK_BOOTTIME and wall clock of the last event, ns.
    pub t_ns: u64,
    pub wall_ns: i64,
    /// Of the segment.
    pub number: u64,
}

impl Head {
    fn encode(&self, len: u32) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0] = self.kind as u8;
        bytes[1] = u8::from(self.is_urgent);
        bytes[2..6].copy_from_slice(&self.events.to_le_bytes());
        bytes[6..10].copy_from_slice(&len.to_le_bytes());
        bytes[10..18].copy_from_slice(&self.t_ns.to_le_bytes());
        bytes[18..26].copy_from_slice(&self.wall_ns.to_le_bytes());
        bytes[26..34].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// The head, and the length of its payload.
    fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<(Self, usize)> {
        let kinds = [Kind::Block, Kind::Segment, Kind::Header, Kind::Finding, Kind::Kill];
        let kind = kinds.into_iter().find(|kind| *kind as u8 == bytes[0])?;
        let word = |at: usize| bytes[at..at + 4].try_into().map(u32::from_le_bytes).ok();
        let long = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let head = Self {
            kind,
            is_urgent: bytes[1] != 0,
            events: word(2)?,
            t_ns: long(10)?,
            wall_ns: long(18)?.cast_signed(),
            number: long(26)?,
        };
        Some((head, word(6)? as usize))
    }
}

/// The pipeline's end.
pub(super) struct Sender(Producer<u8>);

/// The writer's end.
pub(super) struct Receiver(Consumer<u8>);

/// An empty ring of which every page was touched.
pub(super) fn ring() -> (Sender, Receiver) {
    let (mut producer, mut consumer) = RingBuffer::new(RING_BYTES);
    if let Ok(chunk) = producer.write_chunk(RING_BYTES) {
        chunk.commit_all();
    }
    if let Ok(chunk) = consumer.read_chunk(RING_BYTES) {
        chunk.commit_all();
    }
    (Sender(producer), Receiver(consumer))
}

impl Sender {
    /// Adds a record. False = there is no room for it.
    pub fn push(&mut self, head: &Head, payload: &[u8]) -> bool {
        let reserve = if head.kind == Kind::Block { RESERVE_BYTES } else { 0 };
        let (Ok(len), bytes) = (u32::try_from(payload.len()), HEAD_BYTES + payload.len()) else {
            return false;
        };
        if self.free_bytes() < bytes + reserve {
            return false;
        }
        let Ok(mut chunk) = self.0.write_chunk(bytes) else { return false };
        let (first, second) = chunk.as_mut_slices();
        let mut room = first.iter_mut().chain(second);
        let head = head.encode(len);
        for (to, from) in room.by_ref().zip(head) {
            *to = from;
        }
        drop(room);
        let (first, second) = chunk.as_mut_slices();
        copy_behind(HEAD_BYTES, first, second, payload);
        chunk.commit_all();
        true
    }

    /// Bytes that can be added now.
    pub fn free_bytes(&self) -> usize {
        self.0.slots()
    }
}

/// Copies `payload` into two slices that follow each other, from byte `at` of both.
fn copy_behind(at: usize, first: &mut [u8], second: &mut [u8], payload: &[u8]) {
    let split = at.min(first.len());
    let first = &mut first[split..];
    let here = first.len().min(payload.len());
    first[..here].copy_from_slice(&payload[..here]);
    let start = at - split;
    let rest = &payload[here..];
    second[start..start + rest.len()].copy_from_slice(rest);
}

/// A record that is still in the ring; dropped, it stays there.
pub(super) struct Record<'a> {
    pub head: Head,
    chunk: ReadChunk<'a, u8>,
}

impl Record<'_> {
    /// The payload, in two parts.
    pub fn payload(&self) -> [&[u8]; 2] {
        let (first, second) = self.chunk.as_slices();
        let split = HEAD_BYTES.min(first.len());
        [&first[split..], &second[HEAD_BYTES - split..]]
    }

    /// Removes it from the ring.
    pub fn done(self) {
        self.chunk.commit_all();
    }
}

impl Receiver {
    /// The oldest record.
    pub fn peek(&mut self) -> Option<Record<'_>> {
        let mut bytes = [0; HEAD_BYTES];
        {
            let chunk = self.0.read_chunk(HEAD_BYTES).ok()?;
            let (first, second) = chunk.as_slices();
            bytes[..first.len()].copy_from_slice(first);
            bytes[first.len()..].copy_from_slice(second);
        }
        let (head, len) = Head::decode(&bytes)?;
        Some(Record { head, chunk: self.0.read_chunk(HEAD_BYTES + len).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: Kind, number: u64) -> Head {
        Head { kind, is_urgent: true, events: 3, t_ns: 4, wall_ns: -5, number }
    }

    #[test]
    fn records_come_out_as_they_went_in_also_across_the_end_of_the_ring() {
        let (mut sender, mut receiver) = ring();
        for round in 0..500_u64 {
            let payload = vec![round as u8; 40 * round as usize + 1];
            assert!(sender.push(&head(Kind::Finding, round), &payload));
            assert!(sender.push(&head(Kind::Segment, round), &[]));
            drop(receiver.peek().unwrap());
            let record = receiver.peek().unwrap();
            assert_eq!(record.head, head(Kind::Finding, round));
            assert_eq!(record.payload().concat(), payload);
            record.done();
            let record = receiver.peek().unwrap();
            assert_eq!((record.head.kind, record.payload().concat()), (Kind::Segment, Vec::new()));
            record.done();
            assert!(receiver.peek().is_none());
        }
    }

    #[test]
    fn a_full_ring_refuses_blocks_first() {
        let (mut sender, mut receiver) = ring();
        let payload = vec![7; 10_000];
        let mut blocks = 0;
        while sender.push(&head(Kind::Block, blocks), &payload) {
            blocks += 1;
        }
        assert!(sender.push(&head(Kind::Kill, 0), &payload));
        let mut seen = 0;
        while let Some(record) = receiver.peek() {
            assert_eq!(record.payload().concat(), payload);
            record.done();
            seen += 1;
        }
        assert_eq!(seen, blocks + 1);
        assert_eq!(sender.free_bytes(), RING_BYTES);
    }
}
