//! The first few of many, in order, without sorting all: memory is bounded by what is kept, time is
//! linear in what is offered.

use std::cmp::Ordering;

/// Keeps the `keep` first items under an order.
pub(super) struct Top<T, F> {
    keep: usize,
    compare: F,
    items: Vec<T>,
}

impl<T, F: Fn(&T, &T) -> Ordering> Top<T, F> {
    pub(super) fn new(keep: usize, compare: F) -> Self {
        Self { keep, compare, items: Vec::with_capacity(Self::room(keep).min(4096)) }
    }

    pub(super) fn offer(&mut self, item: T) {
        if self.keep == 0 {
            return;
        }
        self.items.push(item);
        if self.items.len() >= Self::room(self.keep) {
            self.items.select_nth_unstable_by(self.keep - 1, &self.compare);
            self.items.truncate(self.keep);
        }
    }

    /// What was kept, first item first.
    pub(super) fn into_sorted(mut self) -> Vec<T> {
        self.items.sort_unstable_by(&self.compare);
        self.items.truncate(self.keep);
        self.items
    }

    fn room(keep: usize) -> usize {
        keep.saturating_mul(2).max(64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_a_full_sort() {
        let mut state = 1u64;
        let numbers: Vec<u64> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 44
        })
        .take(100_000)
        .collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        for keep in [0, 1, 31, 64, 1000] {
            let mut top = Top::new(keep, |a: &u64, b: &u64| b.cmp(a));
            numbers.iter().for_each(|number| top.offer(*number));
            assert!(top.items.len() < 2 * keep.max(64), "memory is bounded");
            assert_eq!(top.into_sorted(), sorted[..keep]);
        }
    }
}
