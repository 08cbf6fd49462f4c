//! Cron jobs that look at the memory every few minutes: a worker takes gigabytes between two of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Context;
use crate::bound::Bound;
use crate::origin::{Notes, Origin};
use crate::report::{Finding, Severity, Subject};
use crate::root::Root;

/// Most tables that are read.
const MAX_FILES: usize = 1000;

/// A job that, by its name, watches the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its line.
    pub at: Origin,
    /// The program.
    pub command: String,
    /// It looks every so many minutes.
    pub every_minutes: u32,
}

/// All such jobs of /etc/crontab, /etc/cron.d and the users' tables.
pub fn read(root: &Root, notes: &mut Notes) -> Vec<Watch> {
    let mut found = Vec::new();
    let mut files = vec![(PathBuf::from("/etc/crontab"), true)];
    for (folder, has_user) in [("/etc/cron.d", true), ("/var/spool/cron/crontabs", false)] {
        match root.list(Path::new(folder)) {
            Ok(paths) => files.extend(paths.into_iter().map(|path| (path, has_user))),
            Err(error) => notes.unread(&error),
        }
    }
    let mut bound = Bound::new(MAX_FILES);
    for (path, has_user) in files {
        // cron passes over names with a dot, such as .placeholder and x.dpkg-old.
        let plain = |name: &str| {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        };
        if !path.file_name().and_then(|name| name.to_str()).is_some_and(plain) {
            continue;
        }
        match root.text(&path) {
            Ok(text) => {
                if !bound.takes(text.len(), &Origin::whole(path.as_path()), notes) {
                    break;
                }
                let file: Arc<Path> = path.into();
                let lines = text.lines().zip(1..);
                found.extend(lines.filter_map(|(line, number)| {
                    let (command, every_minutes) = watch(line, has_user)?;
                    Some(Watch { at: Origin::new(&file, number), command, every_minutes })
                }));
            }
            Err(error) => notes.unread(&error),
        }
    }
    found
}

/// The program and its minutes, if a line runs a watch of the memory every few minutes.
fn watch(line: &str, has_user: bool) -> Option<(String, u32)> {
    let mut words = line.split_whitespace();
    let every = words.next()?.strip_prefix("*/")?.parse().ok()?;
    if words.next()? != "*" {
        return None;
    }
    let command = words.nth(if has_user { 4 } else { 3 })?;
    let name = command.rsplit('/').next()?.to_ascii_lowercase();
    let memory = ["memory", "oom", "swap"].iter().any(|word| name.contains(word));
    let looks = ["monitor", "watch", "check", "guard", "health"];
    let looks = looks.iter().any(|word| name.contains(word));
    (memory && looks && every > 1).then(|| (command.to_owned(), every))
}

/// Tells each of them.
pub fn judge(context: &Context<'_>) -> Vec<Finding> {
    let jobs = context.facts.system.watches.iter();
    jobs.map(|job| {
        let mut finding = Finding::new(
            "system_slow_watch",
            Severity::Info,
            Subject::System,
            job.command.as_str(),
            format!("{} looks at the memory once in {} minutes", job.command, job.every_minutes),
            "One request can take all memory within seconds: it begins and ends between two looks.",
        );
        finding.at = Some(job.at.clone());
        finding.figures.insert("every_s", u64::from(job.every_minutes) * 60);
        finding
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::watch;

    #[test]
    fn only_watches_of_the_memory_count() {
        let job = |line| watch(line, true).map(|(_, every)| every);
        assert_eq!(job("*/5 * * * * root /usr/local/bin/memory-monitor.sh"), Some(5));
        assert_eq!(job("*/3 * * * * root /usr/local/bin/mariadb-health.sh"), None);
        assert_eq!(job("*/5 3 * * * root /usr/local/bin/memory-monitor.sh"), None);
        assert_eq!(job("*/1 * * * * root memory-monitor.sh"), None);
        assert_eq!(job("# */5 * * * * root memory-monitor.sh"), None);
        assert_eq!(job("*/5 * * * * root"), None);
        assert_eq!(
            watch("*/9 * * * * /x/OOM-Watch -v", false),
            Some(("/x/OOM-Watch".to_owned(), 9))
        );
    }
}
