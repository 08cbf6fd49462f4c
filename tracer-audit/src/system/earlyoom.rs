//! earlyoom's options as its 1.7 reads them (getopt, main.c), from its command line or /etc/default/earlyoom.

use std::path::Path;
use std::sync::Arc;

use regex::Regex;

use crate::origin::{Notes, Origin};
use crate::processes::Process;
use crate::root::Root;

/// The file of its options.
const FILE: &str = "/etc/default/earlyoom";
/// Short options; those with an argument are followed by a colon. `-k` and `-i` are from older versions.
const SHORT: &str = "m:s:M:S:kingN:dvr:ph";
/// Long options, and whether they have an argument. The last three are from later versions.
const LONG: [(&str, bool); 7] = [
    ("prefer", true),
    ("avoid", true),
    ("dryrun", false),
    ("help", false),
    ("ignore", true),
    ("sort-by-rss", false),
    ("ignore-root-user", false),
];

/// What it was told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EarlyOom {
    /// Where the options stand.
    pub at: Option<Origin>,
    /// The line as it stands there.
    pub line: Option<String>,
    memory_percent: Option<f64>,
    memory_kib: Option<f64>,
    swap_percent: Option<f64>,
    swap_kib: Option<f64>,
    /// `--prefer`.
    pub prefer: Option<String>,
    /// `--avoid`.
    pub avoid: Option<String>,
    /// `--ignore`.
    pub ignore: Option<String>,
    /// `--dryrun`.
    pub dry_run: bool,
    /// It does not start with these options.
    pub refused: bool,
    /// The other options, in words, but for those that need quotes.
    pub others: Vec<String>,
}

impl EarlyOom {
    /// Below this share of `total_bytes` of memory it ends a process, if swap is as low; per cent.
    pub fn memory_percent(&self, total_bytes: u64) -> f64 {
        lower(self.memory_percent, self.memory_kib, total_bytes)
    }

    /// Below this share of `total_bytes` of swap it ends a process, if memory is as low; per cent.
    pub fn swap_percent(&self, total_bytes: u64) -> f64 {
        lower(self.swap_percent, self.swap_kib, total_bytes)
    }

    /// Whether a process of the name `comm` is preferred.
    pub fn prefers(&self, comm: &str) -> bool {
        self.prefer.as_deref().is_some_and(|pattern| matches(pattern, comm))
    }

    /// Whether one of the name `comm` is spared.
    pub fn avoids(&self, comm: &str) -> bool {
        let patterns = [&self.avoid, &self.ignore];
        patterns.into_iter().flatten().any(|pattern| matches(pattern, comm))
    }

    /// From the words of its command line, without its own name.
    pub fn parse(words: &[String]) -> Self {
        let mut options = Self::default();
        options.refused = options.take(words).is_none();
        options
    }

    /// From a line of /etc/default/earlyoom; None if it is another one.
    pub fn of_line(line: &str) -> Option<Self> {
        let line = line.trim();
        let value = line.strip_prefix("EARLYOOM_ARGS=")?;
        Some(Self { line: Some(line.to_owned()), ..Self::parse(&words(&unquoted(value))) })
    }

    /// What was started, or would be.
    pub fn read(root: &Root, processes: &[Process], notes: &mut Notes) -> Self {
        let file = Path::new(FILE);
        let text = root.text(file).map_err(|error| notes.unread(&error)).unwrap_or_default();
        let file: Arc<Path> = file.into();
        let lines = text.lines().enumerate();
        let of_file = lines.filter_map(|(index, line)| {
            let at = Origin::new(&file, u32::try_from(index + 1).ok()?);
            Some(Self { at: Some(at), ..Self::of_line(line)? })
        });
        let of_file = of_file.last();
        // What a running one was started with counts, wherever it came from.
        let running = processes.iter().find(|process| process.comm == "earlyoom");
        let Some(words) = running.and_then(|process| process.args.get(1..)) else {
            return of_file.unwrap_or_default();
        };
        let (at, line) = of_file.map_or((None, None), |options| (options.at, options.line));
        Self { at, line, ..Self::parse(words) }
    }

    /// None where it ends with an error.
    fn take(&mut self, words: &[String]) -> Option<()> {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                return words.next().is_none().then_some(());
            }
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let (name, has_argument) = long_option(name)?;
                match (has_argument, value) {
                    (true, Some(value)) => self.long(name, value),
                    (true, None) => self.long(name, words.next()?.clone()),
                    (false, Some(_)) => return None,
                    (false, None) => self.long(name, String::new()),
                }
                continue;
            }
            let cluster = word.strip_prefix('-').filter(|cluster| !cluster.is_empty())?;
            for (at, letter) in cluster.char_indices() {
                let place = SHORT.find(letter).filter(|_| letter != ':')?;
                if !SHORT[place + 1..].starts_with(':') {
                    self.others.push(format!("-{letter}"));
                    continue;
                }
                let rest = &cluster[at + letter.len_utf8()..];
                let value = if rest.is_empty() { words.next()?.as_str() } else { rest };
                match letter {
                    'm' => self.memory_percent = Some(threshold(value, 99.0)?),
                    's' => self.swap_percent = Some(threshold(value, 100.0)?),
                    'M' => self.memory_kib = Some(threshold(value, f64::MAX)?),
                    'S' => self.swap_kib = Some(threshold(value, f64::MAX)?),
                    _ => {}
                }
                if is_plain(value) {
                    self.others.extend([format!("-{letter}"), value.to_owned()]);
                }
                break;
            }
        }
        Some(())
    }

    fn long(&mut self, name: &str, value: String) {
        match name {
            "prefer" | "avoid" => {}
            _ if value.is_empty() => self.others.push(format!("--{name}")),
            _ if is_plain(&value) => self.others.push(format!("--{name}={value}")),
            _ => {}
        }
        match name {
            "prefer" => self.prefer = Some(value),
            "avoid" => self.avoid = Some(value),
            "ignore" => self.ignore = Some(value),
            "dryrun" => self.dry_run = true,
            _ => {}
        }
    }
}

/// A name, or the beginning of one only.
fn long_option(name: &str) -> Option<(&'static str, bool)> {
    if let Some(whole) = LONG.into_iter().find(|(whole, _)| *whole == name) {
        return Some(whole);
    }
    let mut begun = LONG.into_iter().filter(|(whole, _)| whole.starts_with(name));
    begun.next().filter(|_| begun.next().is_none())
}

/// `TERM[,KILL]`: below which it first asks a process to end. None where it takes no such value.
fn threshold(text: &str, limit: f64) -> Option<f64> {
    let (term, kill) = text.split_once(',').map_or((text, None), |(term, kill)| (term, Some(kill)));
    let number = |text: &str| {
        let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
        if text.is_empty() { Some(0.0) } else { text.parse::<f64>().ok() }
    };
    let term = number(term)?;
    let kill = kill.map_or(Some(term / 2.0), number)?;
    let most = term.max(kill);
    (term >= 0.0 && kill >= 0.0 && most > 0.0 && most <= limit).then_some(most)
}

/// Of the two ways to say it the lower one counts.
fn lower(percent: Option<f64>, kib: Option<f64>, total_bytes: u64) -> f64 {
    let of_size = kib.map(|kib| kib * 1024.0 * 100.0 / (total_bytes as f64).max(1.0));
    match (percent, of_size) {
        (None, None) => 10.0,
        (one, other) => one.unwrap_or(f64::MAX).min(other.unwrap_or(f64::MAX)),
    }
}

/// An extended regular expression of POSIX. The two languages agree on what people write here; one that does
/// not compile matches nothing.
fn matches(pattern: &str, comm: &str) -> bool {
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(comm))
}

/// A word that a line can hold as it is; what needs a quote is left to who wrote it.
fn is_plain(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/.,_-".contains(&byte);
    !word.is_empty() && word.bytes().all(plain)
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
    fn options_are_those_of_its_line() {
        let line = r#"EARLYOOM_ARGS="-r 3600 -gm 5,2 -s7 --prefer '^(php-fpm|chrome)' --avoid='(^|/)mariadbd$'""#;
        let options = EarlyOom::of_line(line).unwrap();
        assert_eq!((options.memory_percent(0), options.swap_percent(0)), (5.0, 7.0));
        assert!(options.prefers("php-fpm8.3") && !options.prefers("mariadbd"));
        assert!(options.avoids("mariadbd") && !options.avoids("php-fpm8.3"));
        assert_eq!(options.others, ["-r", "3600", "-g", "-m", "5,2", "-s", "7"]);
        let options = EarlyOom::of_line("EARLYOOM_ARGS=-m 5 -M 2048 --pref (").unwrap();
        assert!(!options.refused && !options.prefers("("));
        assert_eq!(options.memory_percent(200 << 20), 1.0);
        assert_eq!(EarlyOom::of_line("#EARLYOOM_ARGS=\"-m 5\""), None);
    }
}
