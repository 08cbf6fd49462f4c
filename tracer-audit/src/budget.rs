//! Who takes how much of the memory, reserved, at worst and as seen, so that it adds up to what there is.

use serde::Serialize;

use crate::origin::Origin;
use crate::report::Subject;

/// What one service can take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Demand {
    /// What it is.
    pub subject: Subject,
    /// The pool, instance or unit.
    pub name: String,
    /// What it needs to do its work, and what nobody else should get, bytes.
    pub reserved_bytes: u64,
    /// What its configuration allows it, bytes; None where nothing bounds it.
    pub worst_bytes: Option<u64>,
    /// What it takes now, or took in a trace, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_bytes: Option<u64>,
    /// How the worst case comes about: `20 workers of 8.0 GiB`.
    pub how: String,
    /// The line that decides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Origin>,
}

/// All demands against the memory of the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Budget {
    /// Memory of the host, bytes; zero where it is not known (an unpacked file system without
    /// proc/meminfo).
    pub total_bytes: u64,
    /// What kernel, page cache and small daemons need, bytes: see [`system_bytes`].
    pub system_bytes: u64,
    /// A demand for each service.
    pub demands: Vec<Demand>,
}

/// What is left to the kernel and everything that is not in the budget: a tenth of the memory, at least
/// 128 MiB (a bare Debian with journald and ssh) and at most 2 GiB.
pub fn system_bytes(total_bytes: u64) -> u64 {
    (total_bytes / 10).clamp((128 << 20).min(total_bytes / 2), 2 << 30)
}

/// The worst case of all `demands`, bytes; None where one of them is unbounded.
pub fn worst_bytes<'a>(mut demands: impl Iterator<Item = &'a Demand>) -> Option<u64> {
    demands.try_fold(0_u64, |sum, demand| Some(sum.saturating_add(demand.worst_bytes?)))
}

impl Budget {
    /// A budget over `demands`.
    pub fn new(total_bytes: u64, demands: Vec<Demand>) -> Self {
        Self { total_bytes, system_bytes: system_bytes(total_bytes), demands }
    }

    /// What is left to the demands of `subject` after all others have what they need, bytes.
    pub fn room_for_bytes(&self, subject: Subject) -> u64 {
        let others = self.demands.iter().filter(|demand| demand.subject != subject);
        let reserved = others.map(|demand| demand.reserved_bytes).fold(0, u64::saturating_add);
        self.total_bytes.saturating_sub(self.system_bytes).saturating_sub(reserved)
    }

    /// The worst case of all demands of `subject`, bytes; None where one of them is unbounded.
    pub fn worst_bytes(&self, subject: Subject) -> Option<u64> {
        worst_bytes(self.demands.iter().filter(|demand| demand.subject == subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn demand(subject: Subject, reserved_bytes: u64, worst_bytes: Option<u64>) -> Demand {
        Demand {
            subject,
            name: "one".to_owned(),
            reserved_bytes,
            worst_bytes,
            observed_bytes: None,
            how: String::new(),
            at: None,
        }
    }

    #[test]
    fn others_come_first() {
        let budget = Budget::new(
            16 * GIB,
            vec![
                demand(Subject::Php, GIB, Some(160 * GIB)),
                demand(Subject::Php, GIB, Some(GIB)),
                demand(Subject::Mysql, 3 * GIB, Some(4 * GIB)),
                demand(Subject::Redis, GIB, None),
            ],
        );
        assert_eq!(budget.system_bytes, 16 * GIB / 10);
        assert_eq!(budget.room_for_bytes(Subject::Php), 12 * GIB - 16 * GIB / 10);
        assert_eq!(budget.worst_bytes(Subject::Php), Some(161 * GIB));
        assert_eq!(budget.worst_bytes(Subject::Redis), None);
    }

    #[test]
    fn absurd_demands_are_no_overflow() {
        let budget = Budget::new(
            GIB,
            vec![
                demand(Subject::Php, u64::MAX, Some(u64::MAX)),
                demand(Subject::Php, u64::MAX, Some(u64::MAX)),
            ],
        );
        assert_eq!(budget.room_for_bytes(Subject::Mysql), 0);
        assert_eq!(budget.worst_bytes(Subject::Php), Some(u64::MAX));
        assert_eq!(Budget::new(0, Vec::new()).room_for_bytes(Subject::Php), 0);
    }
}
