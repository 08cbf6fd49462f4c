//! The findings that are open: each is raised once, updated as it becomes worse, and closed when it
//! is over. Detectors say what holds; what of that is news is decided here.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::event::{Finding, FindingKind, FindingState, ProcessKey, Severity, Subject};

/// Findings that may be open at a time; beyond that the oldest are forgotten without a word.
const MOST_OPEN: usize = 1024;

/// What a finding is about. One finding of a topic is open at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic {
    /// Kind of judgement.
    pub kind: FindingKind,
    /// The process, where it is about one.
    pub process: Option<ProcessKey>,
    /// The cgroup or pool, where it is about one.
    pub place: Option<Arc<str>>,
}

impl Topic {
    /// About a process.
    pub fn process(kind: FindingKind, key: ProcessKey) -> Self {
        Self { kind, process: Some(key), place: None }
    }

    /// About a place; None = the host.
    pub fn place(kind: FindingKind, place: Option<&Arc<str>>) -> Self {
        Self { kind, process: None, place: place.cloned() }
    }
}

/// Open findings, and the news of them since they were last taken.
#[derive(Debug, Default)]
pub struct Ledger {
    raised: u64,
    open: FxHashMap<Topic, Finding>,
    news: Vec<Finding>,
}

impl Ledger {
    /// What happened at one moment: it has no end.
    pub fn happened(&mut self, finding: Finding) {
        let finding = self.numbered(finding);
        self.news.push(finding);
    }

    /// It holds: raised when it is not open, updated when it is more severe than it was.
    pub fn hold(&mut self, topic: Topic, finding: Finding) {
        if !self.is_news(&topic, finding.severity) {
            return;
        }
        if self.open.contains_key(&topic) {
            self.update(&topic, finding);
            return;
        }
        if self.open.len() >= MOST_OPEN {
            self.forget_oldest();
        }
        let finding = self.numbered(finding);
        self.open.insert(topic, finding.clone());
        self.news.push(finding);
    }

    /// Whether [`Ledger::hold`] would say anything: to be asked before a finding is put in words.
    pub fn is_news(&self, topic: &Topic, severity: Severity) -> bool {
        self.open.get(topic).is_none_or(|known| severity > known.severity)
    }

    /// More is known of an open finding. Its severity does not fall.
    pub fn update(&mut self, topic: &Topic, finding: Finding) {
        let Some(known) = self.open.get_mut(topic) else { return };
        *known = Finding {
            id: known.id,
            state: FindingState::Updated,
            severity: known.severity.max(finding.severity),
            ..finding
        };
        self.news.push(known.clone());
    }

    /// It is over; `summary` says so, and why.
    pub fn close(&mut self, topic: &Topic, summary: String) {
        if let Some(known) = self.open.remove(topic) {
            self.news.push(Finding { state: FindingState::Closed, summary, ..known });
        }
    }

    /// The open finding of a topic, as it was last told.
    pub fn get(&self, topic: &Topic) -> Option<&Finding> {
        self.open.get(topic)
    }

    /// Whether an open finding is about this process.
    pub fn is_subject(&self, key: &ProcessKey) -> bool {
        self.open.iter().any(|(topic, finding)| {
            let subject = finding.subject.as_ref().map(Subject::key);
            topic.process == Some(*key) || subject == Some(*key)
        })
    }

    /// Topics of these kinds that are open, the oldest first.
    pub fn topics(&self, kinds: &[FindingKind]) -> Vec<Topic> {
        let is_asked = |topic: &Topic| kinds.contains(&topic.kind);
        let mut topics: Vec<_> = self.open.iter().filter(|(topic, _)| is_asked(topic)).collect();
        topics.sort_by_key(|(_, finding)| finding.id);
        topics.into_iter().map(|(topic, _)| topic.clone()).collect()
    }

    /// What is new since the last call.
    pub fn take_news(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.news)
    }

    fn numbered(&mut self, finding: Finding) -> Finding {
        self.raised += 1;
        Finding { id: self.raised, state: FindingState::Raised, ..finding }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.open.iter().min_by_key(|(_, finding)| finding.id);
        if let Some(topic) = oldest.map(|(topic, _)| topic.clone()) {
            self.open.remove(&topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Evidence, Runaway};

    fn finding(severity: Severity, summary: &str) -> Finding {
        let evidence = Evidence::Runaway(Box::default());
        Finding::new(FindingKind::Runaway, severity, None, summary.to_owned(), evidence)
    }

    fn topic(tgid: u32) -> Topic {
        Topic::process(FindingKind::Runaway, ProcessKey { tgid, start_ns: 1 })
    }

    fn told(ledger: &mut Ledger) -> Vec<(u64, FindingState, Severity, String)> {
        let news = ledger.take_news().into_iter();
        news.map(|news| (news.id, news.state, news.severity, news.summary)).collect()
    }

    #[test]
    fn a_finding_is_raised_once_becomes_worse_and_ends() {
        use FindingState::{Closed, Raised, Updated};
        use Severity::{Critical, Info, Warning};
        let mut ledger = Ledger::default();
        ledger.hold(topic(7), finding(Warning, "a"));
        ledger.hold(topic(7), finding(Warning, "b"));
        ledger.hold(topic(7), finding(Info, "c"));
        assert_eq!(told(&mut ledger), [(1, Raised, Warning, "a".to_owned())]);
        ledger.hold(topic(7), finding(Critical, "d"));
        ledger.hold(topic(8), finding(Info, "e"));
        ledger.update(&topic(7), finding(Info, "f"));
        assert_eq!(
            told(&mut ledger),
            [
                (1, Updated, Critical, "d".to_owned()),
                (2, Raised, Info, "e".to_owned()),
                (1, Updated, Critical, "f".to_owned()),
            ]
        );
        assert_eq!(ledger.topics(&[FindingKind::Runaway]), [topic(7), topic(8)]);
        ledger.close(&topic(7), "g".to_owned());
        ledger.close(&topic(7), "h".to_owned());
        ledger.update(&topic(7), finding(Critical, "i"));
        assert_eq!(told(&mut ledger), [(1, Closed, Critical, "g".to_owned())]);
        ledger.hold(topic(7), finding(Info, "j"));
        ledger.happened(finding(Info, "k"));
        let told = told(&mut ledger);
        assert_eq!(told[0], (3, Raised, Info, "j".to_owned()));
        assert_eq!(told[1], (4, Raised, Info, "k".to_owned()));
    }

    #[test]
    fn it_is_bounded() {
        let mut ledger = Ledger::default();
        for tgid in 0..3000 {
            ledger.hold(topic(tgid), finding(Severity::Info, ""));
        }
        assert_eq!(ledger.topics(&[FindingKind::Runaway]).len(), MOST_OPEN);
        assert!(ledger.get(&topic(2999)).is_some() && ledger.get(&topic(0)).is_none());
        assert_eq!(ledger.take_news().len(), 3000);
    }

    #[test]
    fn evidence_is_that_of_the_last_word() {
        let mut ledger = Ledger::default();
        ledger.hold(topic(1), finding(Severity::Info, "a"));
        let runaway = Runaway { used_bytes: 9, ..Runaway::default() };
        let evidence = Evidence::Runaway(Box::new(runaway));
        ledger.update(
            &topic(1),
            Finding { evidence: evidence.clone(), ..finding(Severity::Info, "b") },
        );
        ledger.close(&topic(1), "over".to_owned());
        assert_eq!(ledger.take_news().pop().map(|news| news.evidence), Some(evidence));
    }
}
