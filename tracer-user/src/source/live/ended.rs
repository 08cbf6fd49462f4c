//! Processes whose exit was told a moment ago. The task iterator, a look at /proc and a program on
//! another CPU may still have seen one alive (since 6.16 it keeps its memory past its exit record):
//! what they say comes late, and must not bring it back to life.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use crate::event::ProcessKey;

/// Those that ended last; what is said late is late by some milliseconds.
const MAX_ENDED: usize = 4096;

/// The last processes that ended.
#[derive(Default)]
pub struct Ended {
    keys: FxHashSet<ProcessKey>,
    order: VecDeque<ProcessKey>,
}

impl Ended {
    /// Its exit has been told.
    pub fn add(&mut self, key: ProcessKey) {
        if !self.keys.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > MAX_ENDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }

    /// Whether its exit was told not long ago.
    pub fn contains(&self, key: &ProcessKey) -> bool {
        self.keys.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let key = |tgid| ProcessKey { tgid, start_ns: 1 };
        let mut ended = Ended::default();
        for tgid in 0..=MAX_ENDED as u32 {
            ended.add(key(tgid));
            ended.add(key(tgid));
        }
        assert!(!ended.contains(&key(0)));
        assert!(ended.contains(&key(1)) && ended.contains(&key(MAX_ENDED as u32)));
        assert_eq!((ended.keys.len(), ended.order.len()), (MAX_ENDED, MAX_ENDED));
    }
}
