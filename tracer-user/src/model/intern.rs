//! One copy of each name: thousands of workers share a handful of names, titles and pools.

use std::sync::Arc;

use rustc_hash::FxHashSet;

/// Longest string that is kept, bytes.
const LONGEST: usize = 4096;
/// Names nobody uses any more are dropped when there are this many, and at each doubling.
const SWEEP_AT: usize = 1024;

/// Shared strings.
#[derive(Debug)]
pub(super) struct Interner {
    known: FxHashSet<Arc<str>>,
    sweep_at: usize,
}

impl Default for Interner {
    fn default() -> Self {
        Self { known: FxHashSet::default(), sweep_at: SWEEP_AT }
    }
}

impl Interner {
    /// The shared copy of `text`, cut to 4 KiB.
    pub fn get(&mut self, text: &Arc<str>) -> Arc<str> {
        let cut = &text[..text.floor_char_boundary(LONGEST)];
        if let Some(known) = self.known.get(cut) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = (2 * self.known.len()).max(SWEEP_AT);
        }
        let kept = if cut.len() == text.len() { Arc::clone(text) } else { Arc::from(cut) };
        self.known.insert(Arc::clone(&kept));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one() {
        let mut names = Interner::default();
        let first = names.get(&Arc::from("php-fpm8.2"));
        let second = names.get(&Arc::from("php-fpm8.2"));
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn names_nobody_uses_are_dropped() {
        let mut names = Interner::default();
        let kept: Vec<_> = (0..100).map(|i| names.get(&Arc::from(format!("kept {i}")))).collect();
        for i in 0..50_000 {
            names.get(&Arc::from(format!("gone {i}")));
        }
        assert!(names.known.len() <= 2 * SWEEP_AT);
        assert!(Arc::ptr_eq(&kept[7], &names.get(&Arc::from("kept 7"))));
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let cut = Interner::default().get(&Arc::from("é".repeat(5000)));
        assert_eq!(cut.len(), LONGEST);
    }
}
