//! Time that processes waited for memory at one limit over the last ten seconds, and who waited most.

use crate::event::ProcessKey;

const S: u64 = 1_000_000_000;
/// Seconds that are kept.
const SPAN_S: u64 = 10;
/// Processes that are kept; when there are more, the one that waited least makes room.
const WAITERS: usize = 8;

/// Stalls at one limit.
#[derive(Clone, Debug, Default)]
pub(super) struct Stalls {
    all: Ring,
    waiters: Vec<(ProcessKey, Ring)>,
}

/// Nanoseconds of waiting in each of the last seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Ring {
    waited_ns: [u64; SPAN_S as usize],
    newest_s: u64,
}

impl Stalls {
    /// A process waited for `duration_ns` in all until now. Of more than ten seconds the last ten
    /// count.
    pub fn add(&mut self, key: ProcessKey, t_ns: u64, duration_ns: u64) {
        self.all.add(t_ns, duration_ns);
        if let Some((_, ring)) = self.waiters.iter_mut().find(|(known, _)| *known == key) {
            return ring.add(t_ns, duration_ns);
        }
        let mut ring = Ring::default();
        ring.add(t_ns, duration_ns);
        if self.waiters.len() < WAITERS {
            return self.waiters.push((key, ring));
        }
        let least = self.waiters.iter_mut().min_by_key(|(_, ring)| ring.sum_at(t_ns));
        if let Some(least) = least.filter(|(_, known)| known.sum_at(t_ns) < ring.sum_at(t_ns)) {
            *least = (key, ring);
        }
    }

    /// Waiting of all processes in the last ten seconds per second of them: 1 = one process did
    /// nothing else; of several it may be more.
    pub fn share_at(&self, now_ns: u64) -> f64 {
        self.all.share_at(now_ns)
    }

    /// The same of those who waited most, in no order.
    pub fn waiters_at(&self, now_ns: u64) -> impl Iterator<Item = (&ProcessKey, f64)> {
        self.waiters
            .iter()
            .map(move |(key, ring)| (key, ring.share_at(now_ns)))
            .filter(|(_, share)| *share > 0.0)
    }
}

impl Ring {
    fn add(&mut self, t_ns: u64, duration_ns: u64) {
        let now_s = t_ns / S;
        if now_s > self.newest_s {
            for second in (self.newest_s + 1..=now_s).rev().take(SPAN_S as usize) {
                self.waited_ns[(second % SPAN_S) as usize] = 0;
            }
            self.newest_s = now_s;
        }
        // Back from now, second by second.
        let mut left_ns = duration_ns;
        let mut second = now_s;
        let mut room_ns = t_ns % S;
        while left_ns > 0 && second + SPAN_S > self.newest_s {
            let part_ns = left_ns.min(room_ns);
            let bucket = &mut self.waited_ns[(second % SPAN_S) as usize];
            *bucket = bucket.saturating_add(part_ns);
            left_ns -= part_ns;
            room_ns = S;
            let Some(before) = second.checked_sub(1) else { return };
            second = before;
        }
    }

    fn sum_at(&self, now_ns: u64) -> u64 {
        let now_s = (now_ns / S).max(self.newest_s);
        let seconds = (0..SPAN_S).filter_map(|back| self.newest_s.checked_sub(back));
        seconds
            .filter(|second| second + SPAN_S > now_s)
            .map(|second| self.waited_ns[(second % SPAN_S) as usize])
            .fold(0, u64::saturating_add)
    }

    fn share_at(&self, now_ns: u64) -> f64 {
        self.sum_at(now_ns) as f64 / (SPAN_S * S) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start_ns: 1 }
    }

    #[test]
    fn the_share_is_that_of_the_last_ten_seconds() {
        let mut stalls = Stalls::default();
        for tenth in 1000..1100_u64 {
            stalls.add(key(1), tenth * S / 10, S / 20);
        }
        assert!((stalls.share_at(1099 * S / 10) - 0.5).abs() < 0.01);
        assert!((stalls.share_at(115 * S) - 0.2).abs() < 0.06);
        assert_eq!(stalls.share_at(120 * S), 0.0);
        assert_eq!(stalls.waiters_at(120 * S).count(), 0);
    }

    #[test]
    fn one_long_stall_counts_where_it_was() {
        let mut stalls = Stalls::default();
        stalls.add(key(1), 100 * S, 4 * S);
        assert!((stalls.share_at(100 * S) - 0.4).abs() < 1e-9);
        assert!((stalls.share_at(107 * S) - 0.2).abs() < 0.11);
        stalls.add(key(2), 100 * S, u64::MAX);
        assert!(stalls.share_at(100 * S) <= 1.4);
        stalls.add(key(2), 3, u64::MAX);
        stalls.add(key(2), u64::MAX, u64::MAX);
        assert!(stalls.share_at(u64::MAX) <= 1.0);
    }

    #[test]
    fn those_who_wait_most_are_kept() {
        let mut stalls = Stalls::default();
        for tgid in 1..=100 {
            stalls.add(key(tgid), 100 * S, u64::from(tgid) * S / 100);
        }
        let mut kept: Vec<u32> = stalls.waiters_at(100 * S).map(|(key, _)| key.tgid).collect();
        kept.sort_unstable();
        assert_eq!(kept, (93..=100).collect::<Vec<_>>());
    }
}
