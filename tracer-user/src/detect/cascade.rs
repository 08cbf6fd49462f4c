//! Counts the kills at each limit: one is seldom alone.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::event::{Cascade, OomScope};

/// Kills further back than this are another story, ns.
const SPAN_NS: u64 = 600_000_000_000;
/// Most limits that are remembered, and most kills of each.
const MOST: usize = 1024;

/// Kills of the last ten minutes by limit (kind of scope and place).
#[derive(Debug, Default)]
pub(super) struct Cascades {
    kills: FxHashMap<(u8, Option<Arc<str>>), VecDeque<u64>>,
}

impl Cascades {
    /// One more kill; `path` is where it counts.
    pub fn count(&mut self, scope: &OomScope, path: Option<&Arc<str>>, t_ns: u64) -> Cascade {
        if self.kills.len() >= MOST {
            self.kills.retain(|_, kills| {
                kills.back().is_some_and(|last| t_ns.saturating_sub(*last) <= SPAN_NS)
            });
            if self.kills.len() >= MOST {
                self.kills.clear();
            }
        }
        let kills = self.kills.entry((scope.kind as u8, path.cloned())).or_default();
        while kills.len() >= MOST
            || kills.front().is_some_and(|first| t_ns.saturating_sub(*first) > SPAN_NS)
        {
            kills.pop_front();
        }
        kills.push_back(t_ns);
        let since_ns = kills.front().map_or(0, |first| t_ns.saturating_sub(*first));
        Cascade {
            number: u32::try_from(kills.len()).unwrap_or(u32::MAX),
            since_s: since_ns as f64 / 1e9,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::script::memcg;

    const S: u64 = 1_000_000_000;

    #[test]
    fn kills_within_ten_minutes_count_by_limit() {
        let mut cascades = Cascades::default();
        let web = memcg("/web", 256.0);
        let mut count =
            |scope: &OomScope, s: u64| cascades.count(scope, scope.cgroup.as_ref(), s * S);
        assert_eq!(count(&web, 100), Cascade { number: 1, since_s: 0.0 });
        assert_eq!(count(&memcg("/db", 1.0), 101).number, 1);
        assert_eq!(count(&web, 130), Cascade { number: 2, since_s: 30.0 });
        assert_eq!(count(&web, 720), Cascade { number: 2, since_s: 590.0 });
        assert_eq!(count(&web, 5000), Cascade { number: 1, since_s: 0.0 });
    }

    #[test]
    fn it_is_bounded() {
        let mut cascades = Cascades::default();
        for i in 0..5000 {
            let scope = memcg(&format!("/{i}"), 1.0);
            cascades.count(&scope, scope.cgroup.as_ref(), i * S);
            let same = memcg("/same", 1.0);
            cascades.count(&same, same.cgroup.as_ref(), 1);
        }
        assert!(cascades.kills.len() <= MOST);
        assert!(cascades.kills.values().all(|kills| kills.len() <= MOST));
    }
}
