//! One copy of each name: thousands of workers share a handful of names, titles and pools.

use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use crate::event::Php;

/// Longest string that is kept, bytes.
const LONGEST: usize = 4096;
/// Names nobody uses any more are dropped when there are this many, and at each doubling.
const SWEEP_AT: usize = 1024;

/// Shared strings, and what is known of PHP processes: the same of all workers of a pool.
#[derive(Debug, Default)]
pub(super) struct Interner {
    texts: Shared<str>,
    php: Shared<Php>,
}

impl Interner {
    /// The shared copy of `text`, cut to 4 KiB.
    pub fn get(&mut self, text: &Arc<str>) -> Arc<str> {
        let cut = &text[..text.floor_char_boundary(LONGEST)];
        self.texts.get(cut).unwrap_or_else(|| {
            let kept = if cut.len() == text.len() { Arc::clone(text) } else { Arc::from(cut) };
            self.texts.keep(kept)
        })
    }

    /// The shared copy of `php`.
    pub fn php(&mut self, php: &Php) -> Arc<Php> {
        if let Some(known) = self.php.get(php) {
            return known;
        }
        let kept = Php {
            sapi: self.get(&php.sapi),
            pool: php.pool.as_ref().map(|text| self.get(text)),
            master_tgid: php.master_tgid,
            version: php.version.as_ref().map(|text| self.get(text)),
        };
        self.php.get(&kept).unwrap_or_else(|| self.php.keep(Arc::new(kept)))
    }
}

/// One copy of each value.
#[derive(Debug)]
struct Shared<T: ?Sized> {
    known: FxHashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T: ?Sized + Hash + Eq> Shared<T> {
    fn get(&self, value: &T) -> Option<Arc<T>> {
        self.known.get(value).cloned()
    }

    fn keep(&mut self, value: Arc<T>) -> Arc<T> {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = (2 * self.known.len()).max(SWEEP_AT);
        }
        self.known.insert(Arc::clone(&value));
        value
    }
}

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self { known: FxHashSet::default(), sweep_at: SWEEP_AT }
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
        assert!(names.texts.known.len() <= 2 * SWEEP_AT);
        assert!(Arc::ptr_eq(&kept[7], &names.get(&Arc::from("kept 7"))));
    }

    #[test]
    fn workers_of_a_pool_share_what_they_are() {
        let php = |pool: &str| Php {
            sapi: "fpm".into(),
            pool: Some(pool.into()),
            master_tgid: Some(7),
            version: None,
        };
        let mut names = Interner::default();
        let first = names.php(&php("www"));
        assert!(Arc::ptr_eq(&first, &names.php(&php("www"))));
        assert_eq!(*names.php(&php("api")), php("api"));
        let long = php(&"x".repeat(5000));
        assert!(Arc::ptr_eq(&names.php(&long), &names.php(&long)));
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let cut = Interner::default().get(&Arc::from("é".repeat(5000)));
        assert_eq!(cut.len(), LONGEST);
    }
}
