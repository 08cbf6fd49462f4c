//! Where the kernel cannot sample growth: looks into the process, taken as its size is seen to have
//! grown. They meet the code that runs by then.

use std::time::{Duration, Instant};

use super::folded::Place;
use super::size::Size;
use super::watch::Step;
use crate::php::{LookOptions, Looker, Target};

/// Growth that is worth a look, bytes …
const STEP_BYTES: u64 = 256 << 10;
/// … but not sooner than after this: at most 100 looks a second, at 0.1 to 0.4 ms each.
const APART: Duration = Duration::from_millis(10);

/// Looks into one process.
#[derive(Debug)]
pub struct Looks {
    looker: Looker,
    options: LookOptions,
    looked: Option<Instant>,
}

impl Looks {
    /// With what is known of the process.
    pub fn new(looker: Looker, options: LookOptions) -> Self {
        Self { looker, options, looked: None }
    }

    /// Looks if it has grown; `last`: however little.
    pub fn take(&mut self, target: &Target, size: &mut Size, last: bool) -> Option<Step> {
        let grown_bytes = size.grown_bytes();
        let may_look = self.looked.is_none_or(|looked| looked.elapsed() >= APART);
        let is_due = (grown_bytes >= STEP_BYTES && may_look) || (last && grown_bytes > 0);
        is_due.then(|| {
            self.looked = Some(Instant::now());
            let place = Place::of(&self.looker.look_at(target, &self.options));
            size.rest().step(place, true)
        })
    }
}
