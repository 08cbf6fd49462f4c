//! Which processes and findings the user asked to see (`--comm`, `--tgid`, `--cgroup`, `--php`).

use regex::Regex;

use super::read::Candidate;
use crate::event::{Evidence, Filters, Finding};

/// The filters of the command line, ready to match.
#[derive(Debug, Default)]
pub(super) struct Shown {
    comm: Option<Regex>,
    tgid: Vec<u32>,
    cgroup: Option<String>,
    php: bool,
}

impl Shown {
    pub(super) fn new(filters: &Filters) -> Result<Self, regex::Error> {
        Ok(Self {
            comm: filters.comm.as_deref().map(Regex::new).transpose()?,
            tgid: filters.tgid.clone(),
            cgroup: filters.cgroup.as_deref().map(|path| path.trim_end_matches('/').to_owned()),
            php: filters.php,
        })
    }

    pub(super) fn process(&self, candidate: &Candidate<'_>) -> bool {
        (candidate.php || !self.php)
            && self.matches(candidate.key.tgid, candidate.comm, candidate.cgroup)
    }

    /// A finding is shown when it names a process that is shown, or nobody.
    pub(super) fn finding(&self, finding: &Finding) -> bool {
        let about = finding.subject.as_ref().is_none_or(|subject| {
            (subject.pool.is_some() || !self.php)
                && self.matches(subject.tgid, &subject.comm, subject.cgroup.as_deref())
        });
        about
            || match &finding.evidence {
                Evidence::OomVerdict(verdict) => verdict.victims.iter().any(|victim| {
                    self.matches(victim.tgid, &victim.comm, victim.cgroup.as_deref())
                }),
                Evidence::Runaway(_) => false,
            }
    }

    fn matches(&self, tgid: u32, comm: &str, cgroup: Option<&str>) -> bool {
        self.comm.as_ref().is_none_or(|regex| regex.is_match(comm))
            && (self.tgid.is_empty() || self.tgid.contains(&tgid))
            && self.cgroup.as_deref().is_none_or(|top| {
                let below = cgroup.and_then(|path| path.strip_prefix(top));
                below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::tests::candidate;
    use super::*;

    #[test]
    fn all_filters_must_match() {
        let shown = Shown::new(&Filters {
            comm: Some("^php".to_owned()),
            tgid: vec![7, 8],
            cgroup: Some("/a/b/".to_owned()),
            php: true,
        })
        .unwrap();
        let right = Candidate { cgroup: Some("/a/b/c"), php: true, ..candidate(7, "php-fpm8.2") };
        assert!(shown.process(&right));
        assert!(shown.process(&Candidate { cgroup: Some("/a/b"), ..right.clone() }));
        for wrong in [
            Candidate { cgroup: Some("/a/bc"), ..right.clone() },
            Candidate { cgroup: None, ..right.clone() },
            Candidate { comm: "myphp", ..right.clone() },
            Candidate { php: false, ..right.clone() },
            Candidate { key: candidate(9, "").key, ..right },
        ] {
            assert!(!shown.process(&wrong), "{wrong:?}");
        }
        assert!(Shown::new(&Filters { comm: Some("(".to_owned()), ..Filters::default() }).is_err());
    }

    #[test]
    fn no_filter_shows_all() {
        let shown = Shown::new(&Filters::default()).unwrap();
        assert!(shown.process(&candidate(1, "x")));
        let root = Filters { cgroup: Some("/".to_owned()), ..Filters::default() };
        let below = Candidate { cgroup: Some("/a"), ..candidate(1, "x") };
        assert!(Shown::new(&root).unwrap().process(&below));
    }
}
