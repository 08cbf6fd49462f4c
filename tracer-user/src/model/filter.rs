//! Which processes are shown. Model and detectors see all of them.

use regex::{Regex, RegexBuilder};

use super::{Process, is_below};
use crate::event::Filters;

/// Compiled [`Filters`].
#[derive(Clone, Debug, Default)]
pub struct Filter {
    comm: Option<Regex>,
    tgid: Vec<u32>,
    cgroup: Option<String>,
    php: bool,
}

impl Filter {
    /// Fails when the expression on comm is none, or is too large.
    pub fn new(filters: &Filters) -> Result<Self, regex::Error> {
        let compile = |text: &String| RegexBuilder::new(text).size_limit(1 << 20).build();
        Ok(Self {
            comm: filters.comm.as_ref().map(compile).transpose()?,
            tgid: filters.tgid.clone(),
            cgroup: filters.cgroup.as_deref().map(hierarchy_path),
            php: filters.php,
        })
    }

    /// Whether this process is shown.
    pub fn matches(&self, process: &Process) -> bool {
        (self.tgid.is_empty() || self.tgid.contains(&process.key.tgid))
            && (!self.php || process.php.is_some())
            && self.comm.as_ref().is_none_or(|comm| comm.is_match(&process.comm))
            && self
                .cgroup
                .as_ref()
                .is_none_or(|root| process.cgroup.as_ref().is_some_and(|path| is_below(path, root)))
    }
}

/// A cgroup as users write it → its path in the hierarchy.
fn hierarchy_path(text: &str) -> String {
    let path = ["/sys/fs/cgroup/memory/", "/sys/fs/cgroup/"]
        .iter()
        .find_map(|mount| text.strip_prefix(mount))
        .unwrap_or(if text == "/sys/fs/cgroup" { "" } else { text });
    format!("/{}", path.trim_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::script::Script;

    fn shown(filters: Filters) -> Vec<u32> {
        let mut script = Script::new();
        script.process(1, "mariadbd", "/db");
        script.worker(2, "www", "/web/php");
        script.worker(3, "api", "/website");
        let filter = Filter::new(&filters).unwrap();
        let mut shown: Vec<_> = script
            .model
            .processes()
            .filter(|process| filter.matches(process))
            .map(|process| process.key.tgid)
            .collect();
        shown.sort_unstable();
        shown
    }

    #[test]
    fn every_filter_must_match() {
        assert_eq!(shown(Filters::default()), [1, 2, 3]);
        assert_eq!(shown(Filters { comm: Some("^maria".to_owned()), ..Filters::default() }), [1]);
        assert_eq!(shown(Filters { tgid: vec![3, 1], ..Filters::default() }), [1, 3]);
        assert_eq!(shown(Filters { php: true, ..Filters::default() }), [2, 3]);
        assert_eq!(shown(Filters { php: true, tgid: vec![1, 3], ..Filters::default() }), [3]);
    }

    #[test]
    fn a_cgroup_is_itself_and_what_is_below() {
        for text in ["/web", "web/", "/sys/fs/cgroup/web", "/sys/fs/cgroup/memory/web/"] {
            let filters = Filters { cgroup: Some(text.to_owned()), ..Filters::default() };
            assert_eq!(shown(filters), [2], "{text}");
        }
        for text in ["/", "/sys/fs/cgroup", "/sys/fs/cgroup/"] {
            let filters = Filters { cgroup: Some(text.to_owned()), ..Filters::default() };
            assert_eq!(shown(filters), [1, 2, 3], "{text}");
        }
    }

    #[test]
    fn a_bad_expression_is_an_error() {
        for bad in ["(", "\\w{100}{100}{100}"] {
            let filters = Filters { comm: Some(bad.to_owned()), ..Filters::default() };
            assert!(Filter::new(&filters).is_err(), "{bad}");
        }
    }
}
