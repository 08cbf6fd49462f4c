//! Growth by request: for each URL template and script, how much was grown, in how many requests.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::event::ProcessKey;

/// Most templates that are kept; when there are more, the one that grew least makes room.
const TEMPLATES: usize = 256;

/// What is one kind of work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKind {
    /// `GET`; empty on the command line.
    pub method: Arc<str>,
    /// `/orders/{n}/export`; empty on the command line.
    pub template: Arc<str>,
    /// The script's file; empty = not known.
    pub script: Arc<str>,
    /// Pool of an FPM worker; empty = none.
    pub pool: Arc<str>,
}

/// What was grown in one kind of request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestGrowth {
    /// Requests that were seen growing.
    pub requests: u64,
    /// What they grew together, bytes.
    pub grown_bytes: u64,
    /// What the one that grew most grew, bytes.
    pub largest_bytes: u64,
    /// The process of that one.
    pub largest: Option<ProcessKey>,
    /// When it last grew, CLOCK_BOOTTIME ns.
    pub last_ns: u64,
}

/// Growth by kind of request.
#[derive(Clone, Debug, Default)]
pub(in crate::model) struct Requests {
    kinds: FxHashMap<Arc<RequestKind>, RequestGrowth>,
    unattributed_bytes: u64,
}

impl Requests {
    /// A request of a kind grew by `bytes`, to `in_request` in all.
    pub fn grow(
        &mut self,
        kind: &Arc<RequestKind>,
        process: ProcessKey,
        bytes: u64,
        in_request: u64,
        t_ns: u64,
    ) {
        if bytes == 0 {
            return;
        }
        if !self.kinds.contains_key(kind) {
            if self.kinds.len() >= TEMPLATES {
                self.make_room();
            }
            self.kinds.insert(Arc::clone(kind), RequestGrowth::default());
        }
        let Some(growth) = self.kinds.get_mut(kind) else { return };
        growth.requests += u64::from(bytes == in_request);
        growth.grown_bytes = growth.grown_bytes.saturating_add(bytes);
        growth.last_ns = t_ns;
        if in_request > growth.largest_bytes {
            growth.largest_bytes = in_request;
            growth.largest = Some(process);
        }
    }

    /// Growth that no look could give to a request.
    pub fn unattributed(&mut self, bytes: u64) {
        self.unattributed_bytes = self.unattributed_bytes.saturating_add(bytes);
    }

    /// Growth that counts towards no kind that is kept, bytes.
    pub fn unattributed_bytes(&self) -> u64 {
        self.unattributed_bytes
    }

    /// All kinds, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&RequestKind, &RequestGrowth)> {
        self.kinds.iter().map(|(kind, growth)| (&**kind, growth))
    }

    fn make_room(&mut self) {
        let least = self
            .kinds
            .iter()
            .min_by_key(|(kind, growth)| (growth.grown_bytes, growth.last_ns, Arc::clone(kind)))
            .map(|(kind, _)| Arc::clone(kind));
        if let Some(growth) = least.and_then(|kind| self.kinds.remove(&kind)) {
            self.unattributed(growth.grown_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ProcessKey = ProcessKey { tgid: 7, start_ns: 1 };

    fn kind(template: &str) -> Arc<RequestKind> {
        Arc::new(RequestKind { template: template.into(), ..RequestKind::default() })
    }

    #[test]
    fn each_request_counts_once_however_often_it_grows() {
        let mut requests = Requests::default();
        let kind = kind("/a");
        requests.grow(&kind, KEY, 5, 5, 1);
        requests.grow(&kind, KEY, 7, 12, 2);
        requests.grow(&kind, KEY, 0, 12, 3);
        requests.grow(&kind, ProcessKey { tgid: 8, ..KEY }, 9, 9, 4);
        let (_, growth) = requests.iter().next().unwrap();
        let expected = RequestGrowth {
            requests: 2,
            grown_bytes: 21,
            largest_bytes: 12,
            largest: Some(KEY),
            last_ns: 4,
        };
        assert_eq!(growth, &expected);
    }

    #[test]
    fn the_table_is_bounded_and_nothing_is_forgotten_silently() {
        let mut requests = Requests::default();
        for at in 1..=1000 {
            requests.grow(&kind(&format!("/{at}")), KEY, at, at, at);
        }
        assert_eq!(requests.iter().count(), TEMPLATES);
        assert!(requests.iter().any(|(kind, _)| &*kind.template == "/1000"));
        let kept: u64 = requests.iter().map(|(_, growth)| growth.grown_bytes).sum();
        assert_eq!(kept + requests.unattributed_bytes(), 500_500);
    }
}
