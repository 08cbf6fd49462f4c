//! What waits to be sent to the courier: alerts in a bounded queue whose memory is there from the
//! start, and of everything else only the newest.

use std::collections::VecDeque;

use serde::Serialize;

use super::frame::{self, HEAD_BYTES};

/// Room for alerts that wait, bytes.
pub const QUEUE_BYTES: usize = 1 << 20;

/// What the frame that is being sent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Latest,
    Alert,
}

/// Frames on their way out, in this order: settings, sign of life, answer, alerts.
#[derive(Debug)]
pub struct Outgoing {
    settings: Vec<u8>,
    alive: Vec<u8>,
    answer: Vec<u8>,
    alerts: VecDeque<u8>,
    /// The frame that is being sent, and how much of it was.
    current: Vec<u8>,
    sent: usize,
    kind: Kind,
    /// Alerts that were sent whole on this connection.
    alerts_sent: u64,
    scratch: Vec<u8>,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            settings: Vec::new(),
            alive: Vec::with_capacity(256),
            answer: Vec::new(),
            alerts: VecDeque::with_capacity(QUEUE_BYTES),
            current: Vec::with_capacity(16 << 10),
            sent: 0,
            kind: Kind::Latest,
            alerts_sent: 0,
            scratch: Vec::with_capacity(16 << 10),
        }
    }
}

impl Outgoing {
    /// Queues an alert; false = there is no room for it.
    pub fn alert<T: Serialize>(&mut self, alert: &T) -> bool {
        let fits = frame::encode(alert, &mut self.scratch).is_ok()
            && self.alerts.len() + self.scratch.len() <= QUEUE_BYTES;
        if fits {
            self.alerts.extend(&self.scratch);
        }
        fits
    }

    /// The settings go first, whatever else waits.
    pub fn settings<T: Serialize>(&mut self, settings: &T) -> Result<(), frame::FrameError> {
        frame::encode(settings, &mut self.settings)
    }

    /// Replaces a sign of life that still waits.
    pub fn alive<T: Serialize>(&mut self, alive: &T) {
        let _ = frame::encode(alive, &mut self.alive);
    }

    /// Replaces an answer that still waits. One that is too long is not given: the courier stops
    /// waiting by itself.
    pub fn answer<T: Serialize>(&mut self, answer: &T) -> Result<(), frame::FrameError> {
        frame::encode(answer, &mut self.answer)
    }

    /// What is to be sent next; empty = nothing.
    pub fn chunk(&mut self) -> &[u8] {
        if self.current.is_empty() {
            let latest = [&mut self.settings, &mut self.alive, &mut self.answer];
            if let Some(next) = latest.into_iter().find(|frame| !frame.is_empty()) {
                std::mem::swap(&mut self.current, next);
                self.kind = Kind::Latest;
            } else if let Some(frame) = front(&self.alerts) {
                self.current.extend(self.alerts.range(..frame));
                self.kind = Kind::Alert;
            }
        }
        &self.current[self.sent..]
    }

    /// That much of [`chunk`](Self::chunk) was sent.
    pub fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent >= self.current.len() {
            if self.kind == Kind::Alert {
                self.alerts.drain(..self.current.len());
                self.alerts_sent += 1;
            }
            self.current.clear();
            self.sent = 0;
        }
    }

    /// The connection is gone. An alert that was not sent whole is sent again on the next; how many
    /// were sent whole on this one is returned.
    pub fn reconnect(&mut self) -> u64 {
        self.current.clear();
        self.sent = 0;
        self.kind = Kind::Latest;
        self.answer.clear();
        std::mem::take(&mut self.alerts_sent)
    }

    /// Bytes of alerts that wait.
    pub fn waiting_bytes(&self) -> usize {
        self.alerts.len()
    }
}

/// Length of the first frame of a queue.
fn front(queue: &VecDeque<u8>) -> Option<usize> {
    let mut head = [0; HEAD_BYTES];
    if queue.len() < HEAD_BYTES {
        return None;
    }
    for (to, from) in head.iter_mut().zip(queue) {
        *to = *from;
    }
    Some(HEAD_BYTES + u32::from_le_bytes(head) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::frame::Decoder;

    fn send(out: &mut Outgoing, most: usize) -> Vec<u8> {
        let mut sent = Vec::new();
        while sent.len() < most {
            let chunk = out.chunk();
            let piece = chunk[..chunk.len().min(most - sent.len()).min(7)].to_vec();
            if piece.is_empty() {
                break;
            }
            out.advance(piece.len());
            sent.extend(piece);
        }
        sent
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        let mut decoder = Decoder::new(1 << 20);
        decoder.push(bytes);
        std::iter::from_fn(|| decoder.take().unwrap()).collect()
    }

    #[test]
    fn the_newest_of_each_goes_before_the_alerts() {
        let mut out = Outgoing::default();
        assert!(out.alert(&"alert 1") && out.alert(&"alert 2"));
        out.alive(&"alive 1");
        out.alive(&"alive 2");
        out.answer(&"answer").unwrap();
        out.settings(&"settings").unwrap();
        let sent = send(&mut out, usize::MAX);
        assert_eq!(texts(&sent), ["settings", "alive 2", "answer", "alert 1", "alert 2"]);
        assert!(out.chunk().is_empty());
        assert_eq!(out.reconnect(), 2);
    }

    #[test]
    fn an_alert_that_was_cut_is_sent_again_whole() {
        let mut out = Outgoing::default();
        for n in 0..10 {
            assert!(out.alert(&format!("alert {n}")));
        }
        // Two alerts and a half.
        let frame = HEAD_BYTES + "\"alert 0\"".len();
        let before = texts(&send(&mut out, 2 * frame + 5));
        assert_eq!(out.reconnect(), 2);
        out.settings(&"settings").unwrap();
        let after = texts(&send(&mut out, usize::MAX));
        assert_eq!((before.len(), after.len()), (2, 9));
        assert_eq!((&*after[0], &*after[1]), ("settings", "alert 2"));
    }

    #[test]
    fn a_full_queue_refuses_and_takes_no_more_memory() {
        let mut out = Outgoing::default();
        let capacity = out.alerts.capacity();
        let alert = "x".repeat(1000);
        let taken = (0..5000).filter(|_| out.alert(&alert)).count();
        assert_eq!(taken, QUEUE_BYTES / (HEAD_BYTES + 1002));
        assert_eq!(out.alerts.capacity(), capacity);
        send(&mut out, 10 * (HEAD_BYTES + 1002));
        assert_eq!((0..50).filter(|_| out.alert(&alert)).count(), 10);
        assert_eq!(texts(&send(&mut out, usize::MAX)).len(), taken);
    }
}
