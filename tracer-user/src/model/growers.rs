//! The few processes that grow most in one scope, kept as growth comes in, so that asking who
//! drives a limit never looks at all processes.

use super::trend::WINDOW_NS;

/// How many are kept.
const TOP: usize = 8;
/// Growth below this does not enter the list, bytes.
const LEAST_BYTES: f32 = (1 << 20) as f32;

/// The top of a scope, in no order.
#[derive(Clone, Debug, Default)]
pub(super) struct Growers {
    top: Vec<Grower>,
}

#[derive(Clone, Copy, Debug)]
struct Grower {
    slot: u32,
    recent_bytes: f32,
    t_ns: u64,
}

impl Grower {
    fn recent_at(&self, now_ns: u64) -> f32 {
        let age = now_ns.saturating_sub(self.t_ns) as f32 / WINDOW_NS as f32;
        self.recent_bytes / (1.0 + age)
    }
}

impl Growers {
    /// The process in `slot` grew by `recent_bytes` in the recent past.
    pub fn update(&mut self, slot: u32, recent_bytes: f32, t_ns: u64) {
        let entry = Grower { slot, recent_bytes, t_ns };
        if let Some(known) = self.top.iter_mut().find(|known| known.slot == slot) {
            *known = entry;
        } else if recent_bytes < LEAST_BYTES {
        } else if self.top.len() < TOP {
            self.top.reserve_exact(TOP - self.top.len());
            self.top.push(entry);
        } else {
            let mut least = (recent_bytes, None);
            for (at, known) in self.top.iter().enumerate() {
                let recent = known.recent_at(t_ns);
                if recent < least.0 {
                    least = (recent, Some(at));
                }
            }
            if let Some(at) = least.1 {
                self.top[at] = entry;
            }
        }
    }

    /// The process in `slot` is gone or elsewhere.
    pub fn remove(&mut self, slot: u32) {
        self.top.retain(|known| known.slot != slot);
    }

    /// Their slots.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.top.iter().map(|grower| grower.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(growers: &Growers) -> Vec<u32> {
        let mut slots: Vec<_> = growers.slots().collect();
        slots.sort_unstable();
        slots
    }

    #[test]
    fn the_largest_stay() {
        let mut growers = Growers::default();
        for slot in 0..100 {
            growers.update(slot, LEAST_BYTES * (1 + slot * 37 % 100) as f32, 0);
        }
        let mut expected: Vec<u32> = (0..100).collect();
        expected.sort_by_key(|slot| std::cmp::Reverse(slot * 37 % 100));
        expected.truncate(TOP);
        expected.sort_unstable();
        assert_eq!(slots(&growers), expected);
    }

    #[test]
    fn old_growth_makes_room() {
        let mut growers = Growers::default();
        for slot in 0..8 {
            growers.update(slot, 100.0 * LEAST_BYTES, 0);
        }
        growers.update(8, 20.0 * LEAST_BYTES, 1);
        assert_eq!(slots(&growers), (0..8).collect::<Vec<_>>());
        growers.update(8, 20.0 * LEAST_BYTES, 60_000_000_000);
        assert!(slots(&growers).contains(&8));
    }

    #[test]
    fn little_growth_does_not_enter_and_the_gone_leave() {
        let mut growers = Growers::default();
        growers.update(1, LEAST_BYTES / 2.0, 0);
        assert!(slots(&growers).is_empty());
        growers.update(1, LEAST_BYTES, 0);
        growers.update(2, LEAST_BYTES, 0);
        growers.remove(1);
        assert_eq!(slots(&growers), [2]);
    }
}
