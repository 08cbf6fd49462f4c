//! Programs that kill before the kernel does: earlyoom, systemd-oomd, nohang; and whom.

use std::path::Path;
use std::sync::Arc;

use regex::Regex;

use crate::origin::{Notes, Origin, Set};
use crate::processes::Process;
use crate::root::Root;
use crate::units::lines;
use crate::units::search::Names;
use crate::units::settings::{Defaults, ManagedOom};
use crate::units::{self, load};

/// A killer that is started at boot, or runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Killers {
    /// earlyoom and its options.
    pub earlyoom: Option<EarlyOom>,
    /// systemd-oomd.
    pub oomd: Option<Oomd>,
    /// nohang.
    pub nohang: bool,
}

/// earlyoom's options, from its running process or else from /etc/default/earlyoom.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EarlyOom {
    /// Where they stand.
    pub at: Option<Origin>,
    /// The line as it stands there.
    pub line: Option<String>,
    /// It kills below this share of memory, per cent, and at the same time …
    pub memory_percent: u32,
    /// … below this share of swap.
    pub swap_percent: u32,
    /// `--prefer`.
    pub prefer: Option<String>,
    /// `--avoid` and `--ignore`.
    pub avoid: Vec<String>,
    /// `--dryrun`.
    pub dry_run: bool,
}

/// What systemd-oomd is told to watch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Oomd {
    /// `SwapUsedLimit=`.
    pub swap_used_limit: Option<Set<String>>,
    /// Units and slices below which it may kill: name, setting, place.
    pub watched: Vec<(String, &'static str, Option<Origin>)>,
}

impl EarlyOom {
    /// Whether a process of the name `comm` is preferred.
    pub fn prefers(&self, comm: &str) -> bool {
        self.prefer.as_deref().is_some_and(|pattern| matches(pattern, comm))
    }

    /// Whether one of the name `comm` is spared.
    pub fn avoids(&self, comm: &str) -> bool {
        self.avoid.iter().any(|pattern| matches(pattern, comm))
    }

    /// From a line of /etc/default/earlyoom; None if it is another one.
    pub fn of_line(line: &str) -> Option<Self> {
        let value = line.trim().strip_prefix("EARLYOOM_ARGS=")?;
        Some(Self { line: Some(line.trim().to_owned()), ..Self::parse(&words(&unquoted(value))) })
    }

    fn parse(words: &[String]) -> Self {
        let mut options = Self { memory_percent: 10, swap_percent: 10, ..Self::default() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            // `-m10` and `-m 10` are the same.
            let (name, value) = match name.strip_prefix('-') {
                Some(short) if !short.starts_with('-') && short.len() > 1 && short.is_ascii() => {
                    (&name[..2], Some(name[2..].to_owned()))
                }
                _ => (name, value),
            };
            let mut argument = || value.clone().or_else(|| words.next().cloned());
            let first = |text: Option<String>| {
                // `5,2`: below the second it sends SIGKILL at once.
                text.and_then(|text| text.split(',').next()?.parse::<f64>().ok())
            };
            match name {
                "-m" => options.memory_percent = first(argument()).map_or(10, |value| value as u32),
                "-s" => options.swap_percent = first(argument()).map_or(10, |value| value as u32),
                "--prefer" => options.prefer = argument(),
                "--avoid" | "--ignore" => options.avoid.extend(argument()),
                "-r" | "-N" | "-M" | "-S" => drop(argument()),
                "--dryrun" => options.dry_run = true,
                _ => {}
            }
        }
        options
    }
}

/// Reads which of them are there.
pub fn read(root: &Root, processes: &[Process], notes: &mut Notes) -> Killers {
    let names = Names::read(root, &mut Notes::default());
    let managed = units::is_managed(root);
    let present = |unit: &str, comm: &str| {
        (managed && names.wanted().iter().any(|name| name == unit))
            || processes.iter().any(|process| process.comm == comm)
    };
    Killers {
        earlyoom: present("earlyoom.service", "earlyoom").then(|| earlyoom(root, processes, notes)),
        oomd: present("systemd-oomd.service", "systemd-oomd").then(|| oomd(root, &names, notes)),
        nohang: present("nohang.service", "nohang") || present("nohang-desktop.service", "nohang"),
    }
}

fn earlyoom(root: &Root, processes: &[Process], notes: &mut Notes) -> EarlyOom {
    let file = Path::new("/etc/default/earlyoom");
    let text = root.text(file).map_err(|error| notes.unread(&error)).unwrap_or_default();
    let file: Arc<Path> = file.into();
    let lines = text.lines().enumerate();
    let of_file = lines.filter_map(|(index, line)| {
        let at = Origin::new(&file, u32::try_from(index + 1).ok()?);
        Some(EarlyOom { at: Some(at), ..EarlyOom::of_line(line)? })
    });
    let of_file = of_file.last();
    // What a running one was started with counts, wherever it came from.
    let running = processes.iter().find(|process| process.comm == "earlyoom");
    let Some(words) = running.and_then(|process| process.args.get(1..)) else {
        return of_file.unwrap_or_else(|| EarlyOom::parse(&[]));
    };
    let (at, line) = of_file.map_or((None, None), |options| (options.at, options.line));
    EarlyOom { at, line, ..EarlyOom::parse(words) }
}

fn oomd(root: &Root, names: &Names, notes: &mut Notes) -> Oomd {
    let mut oomd = Oomd::default();
    for (file, bytes) in load::config(root, "systemd/oomd.conf", notes) {
        for line in lines::parse(&bytes, &["OOM"]).assignments {
            if line.key == "SwapUsedLimit" {
                oomd.swap_used_limit = Some(Set::at(line.value, Origin::new(&file, line.line)));
            }
        }
    }
    let defaults = Defaults::default();
    let ours = names.all().filter(|name| units::Service::of(name).is_some());
    for name in ["-.slice", "system.slice"].into_iter().chain(ours) {
        // Faults of these files are told where the units are read.
        let Some(unit) = load::unit(root, names, &defaults, name, &mut Notes::default()) else {
            continue;
        };
        let settings = unit.settings;
        for (key, set) in [
            ("ManagedOOMSwap", settings.managed_oom_swap),
            ("ManagedOOMMemoryPressure", settings.managed_oom_pressure),
        ] {
            let own = (unit.files.name.clone(), key, set.at);
            if set.value == ManagedOom::Kill && !oomd.watched.contains(&own) {
                oomd.watched.push(own);
            }
        }
    }
    oomd
}

/// An extended regular expression of POSIX. The two languages agree on what people write here; one that does
/// not compile matches nothing.
fn matches(pattern: &str, comm: &str) -> bool {
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(comm))
}

/// The value of a line of an environment file.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let inner =
        ['"', '\''].iter().find_map(|&quote| value.strip_prefix(quote)?.strip_suffix(quote));
    inner.unwrap_or(value).replace("\\\"", "\"")
}

/// Words as systemd splits `$EARLYOOM_ARGS`: at blanks, quotes keep them together.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_its_command_line() {
        let line = r#""-r 3600 -m 5,2 -s7 --prefer '^(php-fpm|chrome)' --avoid='(^|/)mariadbd$'""#;
        let options = EarlyOom::parse(&words(&unquoted(line)));
        assert_eq!((options.memory_percent, options.swap_percent), (5, 7));
        assert!(options.prefers("php-fpm8.3") && !options.prefers("mariadbd"));
        assert!(options.avoids("mariadbd") && !options.avoids("php-fpm8.3"));
        let broken = EarlyOom::parse(&words("--prefer '(' -m"));
        assert!(!broken.prefers("("));
        assert_eq!(broken.memory_percent, 10);
    }
}
