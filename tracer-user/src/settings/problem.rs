//! What can be wrong with a settings file. Each problem is one line with file and line number.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::ValueError;
use super::listen::ListenError;
use super::value::quoted;
use crate::text::printable;

/// The settings cannot be used; exit code 2.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SettingsError {
    #[error(
        "there is no settings file {}; `rampage config sample` prints one",
        printable(&path.to_string_lossy())
    )]
    Missing { path: PathBuf },
    #[error(
        "cannot read the settings {}: {source}; give a file that can be read",
        printable(&path.to_string_lossy())
    )]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "cannot read the settings {}: it is no regular file",
        printable(&path.to_string_lossy())
    )]
    NoFile { path: PathBuf },
    #[error(
        "the settings {} are larger than {} KiB",
        printable(&path.to_string_lossy()),
        super::load::MOST_BYTES >> 10
    )]
    TooLarge { path: PathBuf },
    /// At least one; in the order of their lines.
    #[error("{}", first(problems))]
    Invalid { problems: Vec<Problem> },
}

impl SettingsError {
    /// Each as one line.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Invalid { problems } => problems.iter().map(ToString::to_string).collect(),
            error => vec![error.to_string()],
        }
    }
}

/// For a message that has room for one line.
fn first(problems: &[Problem]) -> String {
    match problems {
        [] => "the settings cannot be used".to_owned(),
        [only] => only.to_string(),
        [first, others @ ..] => {
            format!("{first} (and {} more; `rampage config check` shows all)", others.len())
        }
    }
}

/// One thing that is wrong, or a warning: `FILE:LINE: KEY: what`.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The file.
    pub path: Arc<PathBuf>,
    /// Line, from 1.
    pub line: u32,
    /// The key with its tables; empty = none.
    pub key: String,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", printable(&self.path.to_string_lossy()), self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", quoted(&self.key))?;
        }
        write!(f, "{}", self.fault)
    }
}

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Fault {
    #[error("this is no text in UTF-8")]
    NotUtf8,
    #[error("{message}{hint}")]
    Syntax { message: String, hint: String },
    #[error("the file is no TOML that can be read further")]
    Unreadable,
    #[error("{} more lines are wrong", count)]
    More { count: usize },
    #[error("there is no such key{hint}")]
    UnknownKey { hint: String },
    #[error("must be {wanted}, and is {found}{hint}")]
    WrongType { wanted: String, found: &'static str, hint: String },
    #[error("{0}")]
    Value(#[from] ValueError),
    #[error("must be {wanted}")]
    OutOfRange { wanted: String },
    #[error("`{}` is none of {choices}{hint}", quoted(given))]
    NoChoice { given: String, choices: String, hint: String },
    #[error("is missing: {wanted}")]
    Missing { wanted: String },
    #[error("has {count} entries; at most {most} are allowed")]
    TooMany { count: usize, most: usize },
    #[error("must not contain control characters")]
    ControlCharacter,
    #[error("{0}")]
    Listen(#[from] ListenError),
    #[error("{reason}")]
    Expression { reason: String },
    #[error("must be the path of a memory cgroup, such as \"/system.slice\", without `..`")]
    CgroupPath,
    #[error("must be the whole path of a folder, such as \"/var/lib/rampage\"")]
    Directory,
    #[error("{segment} for one segment is more than max_size, {all}, for all of them together")]
    SegmentTooLarge { segment: String, all: String },
    #[error("must be letters, digits, `_`, `-` and `.` only")]
    ReceiverName,
    #[error("line {line} has that name already; each needs its own, to be told apart in metrics")]
    SameName { line: u32 },
    #[error("must be an address such as \"https://ops.example.org/rampage\", with http or https")]
    Url,
    #[error(
        "must not hold a name and password before the host: send them by `headers`, \
         Authorization = \"Basic …\""
    )]
    UrlUser,
    #[error(
        "must be an address such as \"http://127.0.0.1:4317\", with http or https, without `?`"
    )]
    OtlpEndpoint,
    #[error("a collector takes gRPC at its root: leave the path out, or write protocol = \"http\"")]
    GrpcPath,
    #[error("must begin with the whole path of a program, such as \"/usr/local/bin/page\"")]
    Program,
    #[error("`{}` is no name of a header", quoted(name))]
    HeaderName { name: String },
    #[error("the value of header {} must be visible characters on one line", quoted(name))]
    HeaderValue { name: String },
    #[error("header {} is set by rampage itself; leave it out", quoted(name))]
    HeaderTaken { name: String },

    // Warnings.
    #[error(
        "there is no memory cgroup {} on this host now; until there is, nothing is alerted of",
        quoted(path)
    )]
    NoSuchCgroup { path: String },
    #[error("no pool `{}` has been seen so far: the rule does nothing", quoted(name))]
    UnmatchedPool { name: String },
    #[error("never holds: the rule of line {line} comes first and matches the same pools")]
    ShadowedPool { line: u32 },
    #[error("`{kind}` is never about a pool: it is made all the same")]
    NeverOfPool { kind: &'static str },
    #[error("segments live for max_age at least, {max_age}, and one is only ended after {age}")]
    SegmentOutlivesAge { max_age: String, age: String },
}
