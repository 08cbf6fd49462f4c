//! What a look at a PHP process found, and what it could not find and why.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One look at a PHP process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Process id.
    pub tgid: u32,
    /// Start, CLOCK_BOOTTIME ns, rounded down to 10 ms.
    pub start_ns: u64,
    /// `fpm`, `cli`, `cgi`, `apache` …: how PHP is run.
    pub sapi: Option<Arc<str>>,
    /// `8.2.36`.
    pub version: Option<Arc<str>>,
    /// Pool of an FPM worker, where it is known.
    #[serde(default)]
    pub pool: Option<Arc<str>>,
    /// Anon + swap when it was taken; None = not read.
    #[serde(default)]
    pub private_bytes: Option<u64>,
    /// What the process does.
    pub activity: Activity,
    /// Requests that an FPM worker has had, the present one among them; None = not counted.
    #[serde(default)]
    pub requests: Option<u64>,
    /// The request; None = there is none, or it could not be read (see `missing`).
    pub request: Option<Request>,
    /// PHP's memory manager.
    pub memory: Option<Memory>,
    /// The PHP stack, innermost frame first.
    pub stack: Vec<Frame>,
    /// There are more frames, further out.
    pub stack_cut: bool,
    /// What could not be read.
    pub missing: Vec<Missing>,
    /// Attempts that were thrown away because the process moved on meanwhile.
    pub torn: u32,
    /// What the look took, ns.
    pub took_ns: u64,
}

/// What a PHP process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// It could not be told.
    #[default]
    Unknown,
    /// Waiting for a request, or reading the head of one.
    Idle,
    /// In a request, or running a script.
    Request,
    /// The script has ended; shutdown functions and destructors run.
    Finishing,
}

/// A request, or the script of a command-line process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// `GET`; None on the command line.
    pub method: Option<Arc<str>>,
    /// As the client asked for it, before any rewriting; query values are `…` unless they were
    /// asked for.
    pub uri: Option<Arc<str>>,
    /// The URI is as the web server rewrote it: the client's could not be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uri_rewritten: bool,
    /// Longer texts were cut.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// The Host header.
    pub host: Option<Arc<str>>,
    /// The script's file.
    pub script: Option<Arc<str>>,
    /// Address of the client, where it was asked for.
    pub client: Option<Arc<str>>,
    /// Time in this request, ns.
    pub elapsed_ns: Option<u64>,
}

/// PHP's memory manager. memory_limit is charged on `real_bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// In use by the script (memory_get_usage()).
    pub used_bytes: u64,
    /// Taken from the system (memory_get_usage(true)).
    pub real_bytes: u64,
    /// The most it was in this request.
    pub real_peak_bytes: u64,
    /// The memory_limit in force; None = unlimited.
    pub limit_bytes: Option<u64>,
}

/// A function call, an include, or the script itself. Since 8.4 PHP calls some of its own functions
/// (str_replace, preg_replace …) without a frame: the line that calls them is then the innermost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Class of a method.
    pub class: Option<Arc<str>>,
    /// Function; None = a file's own code.
    pub function: Option<Arc<str>>,
    /// File; None = a function of PHP itself or of an extension.
    pub file: Option<Arc<str>>,
    /// Line that runs, or that called the frame before.
    pub line: Option<u32>,
}

impl Frame {
    /// `App\Import::load`, or None for a file's own code.
    pub fn name(&self) -> Option<String> {
        let function = self.function.as_ref()?;
        Some(match &self.class {
            Some(class) => format!("{class}::{function}"),
            None => function.to_string(),
        })
    }
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What.
    pub part: Part,
    /// Why.
    pub reason: Reason,
}

/// Parts of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Part {
    All,
    Request,
    Memory,
    Stack,
}

/// Why a part is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Reason {
    #[error("the process ended")]
    Gone,
    #[error("the process started another program meanwhile")]
    Replaced,
    #[error("not permitted: it needs root, or CAP_SYS_PTRACE")]
    NotPermitted,
    #[error("not in memory (swapped out); reading it would add to the pressure")]
    SwappedOut,
    #[error("no answer within the time allowed")]
    Deadline,
    #[error("more to read than a look may")]
    TooMuch,
    #[error("PHP moved on while it was read")]
    Torn,
    #[error("not as PHP {version} keeps it: damaged, or another build")]
    Implausible { version: Arc<str> },
    #[error("USE_ZEND_ALLOC=0: PHP's own memory manager is off")]
    OtherAllocator,
    #[error("no PHP in it that can be found")]
    NoPhp,
    #[error("a thread-safe build (ZTS): its state is kept per thread")]
    ThreadSafe,
    #[error("built for ELF machine {machine}; only x86-64 (62) can be read")]
    Machine { machine: u16 },
    #[error("its symbols were stripped: {symbol} is not there")]
    Stripped { symbol: Arc<str> },
    #[error("its version cannot be found")]
    NoVersion,
    #[error("PHP {version} is not known; 7.4 to 8.5 are")]
    UnknownVersion { version: Arc<str> },
    #[error("its program file cannot be read ({kind})")]
    Unreadable { kind: Arc<str> },
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::All => "nothing of PHP",
            Self::Request => "no request",
            Self::Memory => "no memory figures",
            Self::Stack => "no stack, or not all of it",
        })
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.part, self.reason)
    }
}

impl Look {
    /// A look that found nothing yet.
    pub fn new(tgid: u32, start_ns: u64) -> Self {
        Self {
            tgid,
            start_ns,
            sapi: None,
            version: None,
            pool: None,
            private_bytes: None,
            activity: Activity::Unknown,
            requests: None,
            request: None,
            memory: None,
            stack: Vec::new(),
            stack_cut: false,
            missing: Vec::new(),
            torn: 0,
            took_ns: 0,
        }
    }

    /// Notes that a part is missing; once for each part and reason.
    pub fn miss(&mut self, part: Part, reason: Reason) {
        let missing = Missing { part, reason };
        if !self.missing.contains(&missing) {
            self.missing.push(missing);
        }
    }

    /// Whether a part is missing for this reason.
    pub fn lacks(&self, reason: &Reason) -> bool {
        self.missing.iter().any(|missing| missing.reason == *reason)
    }
}
