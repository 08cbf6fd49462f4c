//! How often something may be done.

/// So many a second, and a second's worth at once.
#[derive(Debug)]
pub(super) struct Budget {
    cost_ns: u64,
    /// Earliest time at which everything that was taken so far is paid for, ns.
    paid_ns: u64,
}

impl Budget {
    /// So many a second.
    pub fn of(per_s: u64) -> Self {
        Self { cost_ns: 1_000_000_000 / per_s, paid_ns: 0 }
    }

    /// Whether there is one left at `t_ns`; it is then taken.
    pub fn take(&mut self, t_ns: u64) -> bool {
        let paid_ns = self.paid_ns.max(t_ns.saturating_sub(1_000_000_000)) + self.cost_ns;
        if paid_ns > t_ns {
            return false;
        }
        self.paid_ns = paid_ns;
        true
    }
}
