//! What a running redis does, against what its file says.

use super::instance::Instance;
use super::rules::{change, changed_files, finding};
use crate::report::{Finding, Severity};
use crate::size::human;

/// Differences of `instance` to its file.
pub fn judge(instance: &Instance) -> Vec<Finding> {
    let files = changed_files(instance);
    let mut findings: Vec<Finding> = limit(instance).into_iter().chain(policy(instance)).collect();
    for finding in &mut findings {
        finding.why = match files.first() {
            Some(at) => format!("{at} changed after redis had started: it counts after a restart."),
            None if instance.hidden_args => {
                "It was set in the running redis, and a restart brings back what \
                the file says, or by arguments, which its title hides."
                    .to_owned()
            }
            None => "It was set in the running redis: a restart brings back what is configured."
                .to_owned(),
        };
        finding.others.clone_from(&files);
    }
    findings
}

fn limit(instance: &Instance) -> Option<Finding> {
    let in_force = instance.answer.as_ref().filter(|_| instance.is_known())?.maxmemory_bytes;
    let configured = instance.config.maxmemory().value;
    if in_force == configured {
        return None;
    }
    let looser = configured > 0 && (in_force == 0 || in_force > configured);
    let runs = match in_force {
        0 => "without a maxmemory".to_owned(),
        bytes => format!("with a maxmemory of {}", human(bytes)),
    };
    let says = match configured {
        0 => "none is configured".to_owned(),
        bytes => format!("{} are configured", human(bytes)),
    };
    let mut finding = finding(
        instance,
        ("redis_not_in_force", if looser { Severity::Warning } else { Severity::Info }),
        format!("{} runs {runs}, but {says}", instance.name),
        "",
    );
    // What holds now is worth keeping.
    if configured == 0 && !instance.hidden_args {
        finding.change = change(instance, in_force);
    }
    finding.figures =
        [("maxmemory_bytes", in_force), ("configured_maxmemory_bytes", configured)].into();
    Some(finding)
}

fn policy(instance: &Instance) -> Option<Finding> {
    let in_force = &instance.answer.as_ref().filter(|_| instance.is_known())?.policy;
    let configured = instance.config.get("maxmemory-policy")?;
    if *in_force == configured {
        return None;
    }
    let mut finding = finding(
        instance,
        ("redis_not_in_force", Severity::Info),
        format!(
            "{} runs with the maxmemory-policy {in_force}, but {configured} is configured",
            instance.name
        ),
        "",
    );
    let set = instance.config.values.get("maxmemory-policy");
    finding.at = set.and_then(|set| set.at.clone()).or(finding.at);
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::super::ask::Answer;
    use super::super::instance::find;
    use super::*;
    use crate::origin::Notes;
    use crate::processes::Process;
    use crate::test::tree;

    /// What is said of a redis with this file, in which `bytes` and `policy` are in force.
    fn said(text: &str, title: &str, bytes: u64, policy: &str) -> Vec<(Severity, String)> {
        let (_folder, root) = tree(&[("etc/redis/redis.conf", text)]);
        let args = title.split('|').map(str::to_owned).collect();
        let process = Process { comm: "redis-server".to_owned(), args, ..Process::default() };
        let (mut found, _) = find(&root, &[process], &mut Notes::default());
        let policy = policy.to_owned();
        found[0].answer = Some(Answer { maxmemory_bytes: bytes, policy });
        let said = judge(&found[0]).into_iter();
        said.map(|finding| (finding.severity, format!("{}: {}", finding.summary, finding.why)))
            .collect()
    }

    #[test]
    fn what_is_in_force_is_held_against_what_is_configured() {
        const TITLE: &str = "redis-server 127.0.0.1:6379";
        let limit = "maxmemory 1gb\n";
        assert_eq!(said(limit, TITLE, 1 << 30, "noeviction"), []);
        let found = said(limit, TITLE, 0, "noeviction");
        assert_eq!(found[0].0, Severity::Warning);
        let text = "redis runs without a maxmemory, but 1 GiB are configured: ";
        assert!(found[0].1.starts_with(text) && found[0].1.contains("title hides"), "{found:?}");
        let found = said(limit, "redis-server|/etc/redis/redis.conf", 2 << 30, "allkeys-lru");
        assert!(found[0].1.contains("with a maxmemory of 2 GiB"), "{found:?}");
        assert!(found[0].1.ends_with("a restart brings back what is configured."), "{found:?}");
        assert_eq!((found[1].0, found.len()), (Severity::Info, 2));
        // A limit that the file lacks: nothing is worse than the file says.
        let found = said("", TITLE, 1 << 30, "noeviction");
        assert_eq!(found[0].0, Severity::Info);
        assert!(found[0].1.contains("none is configured"), "{found:?}");
        // What the file says is not known.
        assert_eq!(said(limit, "redis-server 127.0.0.1:1", 0, "noeviction"), []);
    }
}
