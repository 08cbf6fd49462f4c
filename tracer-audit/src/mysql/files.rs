//! Option files that say something else than what counts: overridden, never read, in a group that the server
//! passes over, or refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::installed::Version;
use super::memory::{change, fitting_pool, option, pool};
use super::option_file::{self, MAX_LINES, What};
use super::server::Server;
use super::settings::{Said, Settings};
use super::variables::POOL;
use super::{options, reader};
use crate::Context;
use crate::bound::short;
use crate::origin::{Notes, Origin};
use crate::report::{Finding, Severity, Subject};
use crate::root::Root;
use crate::size::human;

/// Where option files are looked for that no server reads.
const FOLDERS: [&str; 2] = ["/etc/mysql", "/etc/my.cnf.d"];

/// Most files that are looked at there, and how deep.
const MAX_FILES: usize = 1000;
const MAX_DEPTH: usize = 3;

/// Most places that a sentence names.
const MAX_NAMED: usize = 4;

/// An option file that no server reads, with what it has for servers.
#[derive(Clone, Debug)]
pub struct Unread {
    /// The file.
    pub file: Arc<Path>,
    /// What of it would have counted.
    pub said: BTreeMap<&'static str, Said>,
    /// Whether a server reads its folder, and only its suffix keeps it out.
    pub by_suffix: bool,
}

/// Looks for files beside those that are read. Files that were put aside (`.disabled`, `.bak`) are nobody's
/// mistake. None where a server reads more than this user may: it could be one of these files.
pub fn unread(root: &Root, servers: &[Server]) -> Vec<Unread> {
    if servers.iter().any(|server| server.reading.partial) {
        return Vec::new();
    }
    // By what they are, not by name: a folder may be included by another one.
    let identity = |path: &Path| root.stat(path).ok().map(|stat| (stat.st_dev, stat.st_ino));
    let read = servers.iter().flat_map(|server| {
        let files = server.reading.files.iter().map(|(file, _)| file);
        files.chain(&server.reading.world_writable)
    });
    let mut seen: BTreeSet<_> = read.filter_map(|file| identity(file)).collect();
    let mut found = Vec::new();
    let (mut left, mut lines_left) = (MAX_FILES, MAX_LINES);
    for folder in FOLDERS {
        look(root, Path::new(folder), MAX_DEPTH, &mut left, &mut |path| {
            if identity(path).is_some_and(|identity| seen.insert(identity))
                && let Some(unread) = look_into(root, path, servers, &mut lines_left)
            {
                found.push(unread);
            }
        });
    }
    found
}

fn look(root: &Root, folder: &Path, depth: usize, left: &mut usize, take: &mut impl FnMut(&Path)) {
    for path in root.list(folder).unwrap_or_default() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let suffix = path.extension().and_then(|suffix| suffix.to_str());
        if matches!(suffix, Some("cnf" | "conf" | "ini")) {
            take(&path);
        } else if depth > 1 {
            look(root, &path, depth - 1, left, take);
        }
    }
}

fn look_into(
    root: &Root,
    path: &Path,
    servers: &[Server],
    lines_left: &mut usize,
) -> Option<Unread> {
    let server = servers.first().filter(|_| *lines_left > 0)?;
    let bytes = root.read(path).ok()?;
    let file: Arc<Path> = Arc::from(path);
    let mut given = Vec::new();
    let mut group: Arc<str> = Arc::from("");
    let entries = option_file::parse(&bytes);
    *lines_left = lines_left.saturating_sub(entries.len());
    for entry in entries {
        match entry.what {
            What::Group(name) => group = Arc::from(name),
            What::Option(option) if servers.iter().any(|server| server.reads(&group)) => {
                let (group, at) = (group.clone(), Origin::new(&file, entry.line));
                given.push(reader::Given { group, option, text: entry.text, at });
            }
            _ => {}
        }
    }
    let version = (server.flavour, server.version);
    // What is wrong in a file that nobody reads stops nobody.
    let settings = Settings::new(version, &given, &server.groups, &[], &mut Notes::default());
    let said: BTreeMap<_, _> = settings
        .numbers
        .into_iter()
        .filter_map(|(name, mut said)| Some((name, said.pop()?)))
        .collect();
    let by_suffix = servers.iter().any(|server| {
        server.reading.folders.iter().any(|folder| path.parent() == Some(&*folder.path))
    });
    (!said.is_empty()).then_some(Unread { file, said, by_suffix })
}

/// What `server` does not take from the files.
pub fn judge(server: &Server, unread: &[Unread], context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(unread.iter().flat_map(|unread| never_read(server, unread, context)));
    let names = server.settings.numbers.keys();
    findings.extend(names.filter_map(|name| conflict(server, name, context)));
    findings.extend(other_groups(server));
    findings.extend(server.reading.world_writable.iter().map(|file| world_writable(server, file)));
    findings.extend(refused(server));
    findings
}

fn never_read(server: &Server, unread: &Unread, context: &Context<'_>) -> Vec<Finding> {
    let differs = |name: &str, said: &Said| server.settings.number(name).value != said.value;
    let mut findings = Vec::new();
    if let Some(said) = unread.said.get(POOL).filter(|said| differs(POOL, said)) {
        findings.push(dead_pool(server, unread, said, context));
    }
    let others: Vec<&Said> = unread
        .said
        .iter()
        .filter(|(name, said)| **name != POOL && differs(name, said))
        .map(|(_, said)| said)
        .collect();
    if let Some(first) = others.first() {
        let options: Vec<String> = others.iter().map(|said| short(&said.option)).collect();
        let mut finding = Finding::new(
            "mysql_file_never_read",
            Severity::Info,
            Subject::Mysql,
            &server.name,
            format!(
                "{} is never read: {} counts for nothing",
                unread.file.display(),
                options.join(", ")
            ),
            why_unread(server, unread),
        );
        finding.at = first.at.clone();
        finding.others = including(server);
        findings.push(finding);
    }
    findings
}

/// The riddle of a pool that is set in one file, capped in another, and the default without both.
fn dead_pool(server: &Server, unread: &Unread, said: &Said, context: &Context<'_>) -> Finding {
    let total = context.budget.total_bytes;
    let counts = pool(server, total);
    let default = super::variables::find(POOL)
        .map_or(0, |variable| variable.default(server.flavour, server.version));
    let mut why = why_unread(server, unread);
    match (server.settings.said(POOL).last(), &counts.at) {
        (_, Some(at)) => why.push_str(&format!(
            " {at} is what counts; without that line it would be the default of {}.",
            human(default)
        )),
        (Some(_), None) => why.push_str(" The command line is what counts."),
        (None, None) => why.push_str(" Nothing else says anything, so the default counts."),
    }
    let fitting = fitting_pool(server, context.budget);
    let meant = said.value.max(counts.value);
    let target = if total > 0 && meant > fitting { fitting } else { meant };
    if target == said.value {
        let fits = if total > 0 { " and fits" } else { "" };
        why.push_str(&format!(
            " {} is the larger of both{fits}: probably it was meant.",
            human(said.value)
        ));
    }
    let mut finding = Finding::new(
        "mysql_file_never_read",
        Severity::Warning,
        Subject::Mysql,
        &server.name,
        format!(
            "the buffer pool of {} is {}, not the {} of {}: that file is never read",
            server.name,
            human(counts.value),
            human(said.value),
            unread.file.display()
        ),
        why,
    );
    finding.at = said.at.clone();
    finding.others = counts.at.iter().cloned().chain(including(server)).collect();
    if target != counts.value {
        finding.change = change(server, POOL, &option(target));
    }
    finding.figures = [
        ("pool_bytes", counts.value),
        ("unread_pool_bytes", said.value),
        ("default_pool_bytes", default),
    ]
    .into();
    finding
}

fn why_unread(server: &Server, unread: &Unread) -> String {
    if unread.by_suffix {
        return "Only files whose names end in .cnf are read from that folder.".to_owned();
    }
    let folders: Vec<String> =
        server.reading.folders.iter().map(|folder| folder.path.display().to_string()).collect();
    if folders.is_empty() {
        let files: Vec<String> =
            server.reading.files.iter().map(|(file, _)| file.display().to_string()).collect();
        return match files.is_empty() {
            true => format!("{} reads no option file at all.", server.name),
            false => format!("{} reads only {}.", server.name, files.join(" and ")),
        };
    }
    format!("The option files include only {}.", folders.join(" and "))
}

/// The directives that leave the file out.
fn including(server: &Server) -> Vec<Origin> {
    server.reading.folders.iter().map(|folder| folder.at.clone()).collect()
}

/// A variable that several lines give different values. Overriding is what folders of files are for; that a
/// pool is smaller than another file has it is worth a look all the same.
fn conflict(server: &Server, name: &str, context: &Context<'_>) -> Option<Finding> {
    let (last, rest) = server.settings.said(name).split_last()?;
    let lost: Vec<&Said> = rest.iter().filter(|said| said.value != last.value).collect();
    let largest = lost.iter().max_by_key(|said| said.value)?;
    let smaller = name == POOL && last.value < largest.value;
    let winner = match &last.at {
        Some(at) => format!("{at}, which is read last"),
        None => "the command line".to_owned(),
    };
    let losers: Vec<String> = lost
        .iter()
        .take(MAX_NAMED)
        .map(|said| match &said.at {
            Some(at) => format!("{:?} in {at}", short(&said.option)),
            None => format!("{:?} before it", short(&said.option)),
        })
        .collect();
    let key = name.replace('-', "_");
    let mut why =
        "Whoever reads or changes one of these files is misled about what the server does."
            .to_owned();
    let total = context.budget.total_bytes;
    let fits = total > 0 && largest.value <= fitting_pool(server, context.budget);
    if smaller && fits {
        why.push_str(&format!(" {} fits: probably it was meant.", human(largest.value)));
    }
    let mut finding = Finding::new(
        "mysql_option_conflict",
        if smaller { Severity::Warning } else { Severity::Info },
        Subject::Mysql,
        &server.name,
        format!(
            "{:?} counts, from {winner}; {}{} is overridden",
            short(&last.option),
            losers.join(" and "),
            more(lost.len())
        ),
        why,
    );
    finding.at = last.at.clone().or_else(|| largest.at.clone());
    finding.others = lost.iter().take(MAX_NAMED).filter_map(|said| said.at.clone()).collect();
    if smaller && fits {
        finding.change = change(server, POOL, &option(largest.value));
    }
    if key.ends_with("_size") {
        finding.figures = [("value_bytes", last.value), ("overridden_bytes", largest.value)].into();
    }
    Some(finding)
}

fn more(all: usize) -> String {
    match all.saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}

/// A pool in a group that the server does not read: of clients, or of another version.
fn other_groups(server: &Server) -> Vec<Finding> {
    let counts = server.pool();
    let given = server.reading.given.iter().filter(|given| !server.reads(&given.group));
    given
        .filter_map(|given| {
            let found = options::resolve(&given.option, false).ok()?;
            let value = super::variables::number(found.value?).ok()?;
            let variable = super::variables::find(found.name).filter(|found| found.name == POOL)?;
            let value = variable.bounded(value);
            let group = given.group.to_ascii_lowercase();
            // Servers of mysqld_multi, and those of a suffix, have groups of their own; which version's groups
            // are read is known where the version is.
            let version = server.version.is_some()
                && ["mysqld-", "mariadb-", "mariadbd-"].iter().any(|name| {
                    group.strip_prefix(name).is_some_and(|rest| Version::parse(rest).is_some())
                });
            let client = matches!(group.as_str(), "mysql" | "client" | "mysqld_safe" | "mariadb-client");
            if value == counts.value || !(version || client) {
                return None;
            }
            let mut finding = Finding::new(
                "mysql_group_not_read",
                if version { Severity::Info } else { Severity::Warning },
                Subject::Mysql,
                &server.name,
                format!(
                    "the buffer pool of {} is {}, not the {} in group [{}], which the server does not read",
                    server.name,
                    human(counts.value),
                    human(value),
                    short(&given.group)
                ),
                format!("It reads the groups {}.", server.groups.join(", ")),
            );
            finding.at = Some(given.at.clone());
            finding.others = counts.at.iter().cloned().collect();
            if client {
                finding.change = change(server, POOL, &option(value));
            }
            finding.figures = [("pool_bytes", counts.value), ("unread_pool_bytes", value)].into();
            Some(finding)
        })
        .take(MAX_NAMED)
        .collect()
}

fn world_writable(server: &Server, file: &Arc<Path>) -> Finding {
    let mut finding = Finding::new(
        "mysql_file_ignored",
        Severity::Warning,
        Subject::Mysql,
        &server.name,
        format!("{} is not read: everybody may write it", file.display()),
        "The server passes over such files with a warning, and none of its options counts; chmod o-w makes \
         it count again.",
    );
    finding.at = Some(Origin::whole(file.clone()));
    finding
}

fn refused(server: &Server) -> Option<Finding> {
    let of_files = server.reading.refused.clone().map(|(at, why)| (Some(at), why));
    let (at, why) = of_files.or_else(|| server.settings.refused.clone())?;
    let mut finding = Finding::new(
        "mysql_does_not_start",
        Severity::Warning,
        Subject::Mysql,
        &server.name,
        format!("{} will not start again: {why}", server.name),
        "After the next kill or reboot the database stays down.",
    );
    finding.at = at;
    Some(finding)
}
