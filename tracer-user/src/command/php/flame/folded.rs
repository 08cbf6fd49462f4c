//! From looks to folded stacks: which text stands for what a look found, and how many bytes were
//! seen in each. Names are hostile: whatever they are, a stack is one line that ends in its count.

use std::borrow::Cow;
use std::fmt::Write as _;

use rustc_hash::FxHashMap;

use crate::event::look::{Activity, Frame, Look, Missing, Part, Reason, Request};
use crate::text::printable;

/// Most stacks that are kept apart …
const STACKS: usize = 10_000;
/// … and most bytes of their text. What is beyond either is summed.
const TEXT_BYTES: usize = 32 << 20;
/// Longest name of a request or a function, bytes.
const NAME_BYTES: usize = 240;
/// Longest name of a file, bytes: its end counts.
const FILE_BYTES: usize = 240;
/// Where the growth of further stacks is summed.
const OTHERS: &str = "(other stacks)";

/// Where a process was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Frames, the outermost first, `;` between them.
    pub stack: String,
    /// It is PHP code, and not the reason why there is none.
    pub is_code: bool,
}

impl Place {
    /// What a look found: the request, then the calls from the outermost to the innermost.
    pub fn of(look: &Look) -> Self {
        let request = look.request.as_ref().map(request);
        let unread = look.missing.iter().find(|missing| !matters_not(missing));
        match (&request, unread) {
            (None, Some(missing)) => return Self::unread(&missing.reason),
            (Some(request), Some(missing)) if look.stack.is_empty() => {
                let Self { stack, .. } = Self::unread(&missing.reason);
                return Self::apart([&*stack, request]);
            }
            _ => {}
        }
        let Some(request) = request else {
            return Self::between(look.activity);
        };
        let mut frames = calls(request, &look.stack, look.stack_cut);
        if look.lacks(&Reason::Torn) {
            // Those further in came and went while they were read.
            frames.push("(calls that came and went)".to_owned());
        }
        Self { stack: line(frames), is_code: true }
    }

    /// A stack that the kernel saw, innermost first; no request = no look saw the one that it is in.
    pub fn sampled(within: Option<&Request>, stack: &[Frame], cut: bool) -> Self {
        Self { stack: line(calls(root(within), stack, cut)), is_code: true }
    }

    /// A stack that the kernel saw, but whose names could not be read.
    pub fn unnamed(within: Option<&Request>) -> Self {
        Self::apart(["(not read: names of its functions)", &root(within)])
    }

    /// The kernel took no sample.
    pub fn unsampled() -> Self {
        Self::apart(["(not sampled)"])
    }

    /// There is no request.
    pub fn between(activity: Activity) -> Self {
        Self::apart([match activity {
            Activity::Finishing => "(finishing a request)",
            Activity::Idle => "(between requests)",
            Activity::Request | Activity::Unknown => "(request not known)",
        }])
    }

    /// No look could be had.
    pub fn unread(reason: &Reason) -> Self {
        let reason: Cow<'_, str> = match reason {
            Reason::SwappedOut => "swapped out".into(),
            Reason::NotPermitted => "not permitted".into(),
            other => other.to_string().into(),
        };
        Self::apart([&*clean(&format!("(not read: {reason})"))])
    }

    fn apart<'a>(frames: impl IntoIterator<Item = &'a str>) -> Self {
        Self { stack: line(frames.into_iter().map(str::to_owned)), is_code: false }
    }
}

/// The stack does not depend on it.
fn matters_not(missing: &Missing) -> bool {
    missing.part == Part::Memory
}

fn root(within: Option<&Request>) -> String {
    within.map_or_else(|| "(request not read)".to_owned(), request)
}

/// The root, and the calls from the outermost to the innermost.
fn calls(root: String, stack: &[Frame], cut: bool) -> Vec<String> {
    let mut frames = vec![root];
    if cut {
        frames.push("(further frames)".to_owned());
    }
    frames.extend(stack.iter().rev().map(frame));
    if stack.is_empty() {
        frames.push("(no function runs)".to_owned());
    }
    frames
}

/// `GET /orders/17?token=…`, or the script of a command-line process.
fn request(request: &Request) -> String {
    let name = match (&request.method, &request.uri, &request.script) {
        (Some(method), Some(uri), _) => format!("{method} {uri}"),
        (None, Some(uri), _) => uri.to_string(),
        (_, None, Some(script)) => return end(&clean(script)),
        (_, None, None) => "(request not known)".to_owned(),
    };
    start(&clean(&name))
}

/// `App\Import::load  /srv/Import.php:214`.
fn frame(frame: &Frame) -> String {
    let mut text = frame.name().map_or_else(String::new, |name| start(&clean(&name)));
    if let Some(file) = &frame.file {
        if !text.is_empty() {
            text.push_str("  ");
        }
        text.push_str(&end(&clean(file)));
        if let Some(line) = frame.line {
            // Writing to a String cannot fail.
            let _ = write!(text, ":{line}");
        }
    }
    text
}

/// One line of text that is no separator, and that XML can hold.
fn clean(text: &str) -> String {
    let replace = |c| match c {
        ';' => ':',
        '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    printable(text).trim().chars().map(replace).collect()
}

fn start(text: &str) -> String {
    if text.len() <= NAME_BYTES {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(NAME_BYTES - 3)])
}

fn end(text: &str) -> String {
    if text.len() <= FILE_BYTES {
        return text.to_owned();
    }
    format!("…{}", &text[text.ceil_char_boundary(text.len() - (FILE_BYTES - 3))..])
}

/// Joins frames so that no reader takes a part of them for a comment or for a count.
fn line(frames: impl IntoIterator<Item = String>) -> String {
    let mut stack = String::new();
    for frame in frames {
        if !stack.is_empty() {
            stack.push(';');
        }
        stack.push_str(if frame.is_empty() { "?" } else { &frame });
    }
    if let Some(at) = stack.rfind(' ')
        && stack[at + 1..].chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        stack.replace_range(at..=at, "_");
    }
    if stack.starts_with('#') {
        stack.replace_range(..1, "_");
    }
    stack
}

/// How many bytes a process grew by, and where.
#[derive(Debug, Default)]
pub struct Growth {
    stacks: FxHashMap<String, u64>,
    text_bytes: usize,
    code_stacks: usize,
    /// All of it.
    pub bytes: u64,
    /// Of these, in PHP code that was seen.
    pub code_bytes: u64,
    /// Of these, in stacks beyond those that are kept apart.
    pub other_bytes: u64,
}

impl Growth {
    /// Gives `bytes` to a place.
    pub fn add(&mut self, place: Place, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if place.is_code {
            self.code_bytes = self.code_bytes.saturating_add(bytes);
        }
        if let Some(known) = self.stacks.get_mut(&place.stack) {
            *known = known.saturating_add(bytes);
            return;
        }
        let text_bytes = self.text_bytes + place.stack.len();
        if self.stacks.len() >= STACKS || text_bytes > TEXT_BYTES {
            self.other_bytes = self.other_bytes.saturating_add(bytes);
            return;
        }
        self.text_bytes = text_bytes;
        self.code_stacks += usize::from(place.is_code);
        self.stacks.insert(place.stack, bytes);
    }

    /// Stacks of PHP code that are kept apart.
    pub fn code_stacks(&self) -> usize {
        self.code_stacks
    }

    /// `outermost;…;innermost BYTES`, the largest first.
    pub fn lines(&self) -> Vec<String> {
        let others = Some((OTHERS, self.other_bytes)).filter(|(_, bytes)| *bytes > 0);
        let stacks = self.stacks.iter().map(|(stack, bytes)| (stack.as_str(), *bytes));
        let mut all: Vec<_> = stacks.chain(others).collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        all.into_iter().map(|(stack, bytes)| format!("{stack} {bytes}")).collect()
    }
}

#[cfg(test)]
mod tests;
