//! Whom the OOM killer would choose at the limit with the least room left, in words.

use super::filter::Filter;
use crate::model::{Model, Scope};

/// Columns of a process's name.
const COMM_COLUMNS: usize = 16;
/// Columns of a cgroup's path.
const PATH_COLUMNS: usize = 48;

/// `next to be killed: mariadbd (pid 12), by the limit of /web`. None = nobody, or no limit is
/// known. `short` makes a name safe and cuts it to so many columns.
pub(super) fn words(
    model: &Model,
    filter: &Filter,
    short: impl Fn(&str, usize) -> String,
) -> Option<String> {
    let room = |scope: &Scope<'_>| scope.headroom_bytes as f64 / scope.limit_bytes.max(1) as f64;
    let nearest = model
        .limits()
        .filter(|scope| {
            scope.path.is_none_or(|path| {
                let kills = model.cgroup(path).is_some_and(|cgroup| cgroup.kills());
                kills && filter.matches_cgroup(Some(path))
            })
        })
        .min_by(|a, b| room(a).total_cmp(&room(b)).then_with(|| a.path.cmp(&b.path)))?;
    let victim = model.next_victim(nearest.path.map(|path| &**path))?;
    let doubt = if victim.is_certain { "" } else { ", perhaps" };
    let (comm, tgid) = (short(&victim.comm, COMM_COLUMNS), victim.tgid);
    let group = victim.group.map(|path| short(&path, PATH_COLUMNS));
    let group = group.map_or_else(String::new, |path| format!(" with all of {path}"));
    let limit =
        nearest.path.map_or_else(|| "the host".to_owned(), |path| short(path, PATH_COLUMNS));
    Some(format!("next to be killed{doubt}: {comm} (pid {tgid}){group}, by the limit of {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Cgroup, CgroupEvents, Event, Filters};
    use crate::model::script::{MIB, Script};

    fn said(script: &Script, filters: Filters) -> Option<String> {
        let filter = Filter::new(&filters).unwrap();
        words(&script.model, &filter, |name, columns| crate::text::fit(name, columns).into_owned())
    }

    #[test]
    fn it_is_that_of_the_limit_with_the_least_room() {
        let mut script = Script::new();
        script.process(12, "mariadbd", "/web/db");
        script.process(13, "php", "/web/php");
        script.size(12, 60.0);
        script.size(13, 20.0);
        assert_eq!(said(&script, Filters::default()), None);
        script.host(1000.0, 900.0, 0.0);
        let host = "next to be killed: mariadbd (pid 12), by the limit of the host";
        assert_eq!(said(&script, Filters::default()).as_deref(), Some(host));
        script.cgroup("/web/php", 80.0, 100.0, None);
        let php = "next to be killed: php (pid 13), by the limit of /web/php";
        assert_eq!(said(&script, Filters::default()).as_deref(), Some(php));
        let filters = Filters { cgroup: Some("/web/db".to_owned()), ..Filters::default() };
        assert_eq!(said(&script, filters).as_deref(), Some(host));
        // memory.high is nearer, but nobody is killed there.
        script.feed(Event::Cgroup(Box::new(Cgroup {
            path: "/web/db".into(),
            usage_bytes: 60 * MIB,
            high_bytes: Some(61 * MIB),
            ..Cgroup::default()
        })));
        assert_eq!(said(&script, Filters::default()).as_deref(), Some(php));
    }

    #[test]
    fn doubt_and_the_others_who_die_are_said() {
        let mut script = Script::new();
        script.process(12, "mariadbd", "/web/db");
        script.process(13, "php", "/web/php");
        script.size(12, 60.0);
        script.size(13, 59.5);
        script.feed(Event::Cgroup(Box::new(Cgroup {
            path: "/web".into(),
            usage_bytes: 120 * MIB,
            max_bytes: Some(128 * MIB),
            events: Some(CgroupEvents::default()),
            oom_group: true,
            ..Cgroup::default()
        })));
        assert_eq!(
            said(&script, Filters::default()).as_deref(),
            Some(
                "next to be killed, perhaps: mariadbd (pid 12) with all of /web, \
                 by the limit of /web"
            )
        );
    }
}
