//! How long to wait before the next attempt: twice as long after each failure, from 1 to 60 seconds,
//! spread so that a fleet does not come back all at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// A receiver that asks to be left alone for longer than this gets this.
const MAX_ASKED: Duration = Duration::from_secs(300);

/// The pauses of one receiver.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// The pause after a failure: between half and all of what is due, but no less than the receiver
    /// asked for.
    pub fn pause(&mut self, asked: Option<Duration>) -> Duration {
        let due = self.next;
        self.next = (due * 2).min(LONGEST);
        let spread = due.mul_f64(0.5 + fastrand::f64() / 2.0);
        spread.max(asked.unwrap_or_default().min(MAX_ASKED))
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_are_spread() {
        let mut backoff = Backoff::default();
        for due in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = backoff.pause(None).as_secs_f64();
            let due = f64::from(due);
            assert!((due / 2.0..=due).contains(&pause), "{pause} of {due}");
        }
        backoff.reset();
        assert!(backoff.pause(None) <= FIRST);
        assert_eq!(backoff.pause(Some(Duration::from_secs(100))), Duration::from_secs(100));
        assert_eq!(backoff.pause(Some(Duration::from_secs(9000))), MAX_ASKED);
    }
}
