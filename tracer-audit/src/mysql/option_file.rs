//! The syntax of one option file, byte for byte as MariaDB 10.11 reads it (mysys/my_default.c): lines, groups,
//! quotes, escapes, comments and the two directives. Which files there are is told by [`super::reader`].

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Most bytes of a line: the server reads longer lines as several, because its buffer is a page.
const MAX_LINE_BYTES: usize = 4094;

/// Most lines of one server's files that are followed. Of a single file one more is kept, by which it is seen.
pub const MAX_LINES: usize = 50_000;

/// A line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From 1.
    pub line: u32,
    /// The line itself, without the blanks around it.
    pub text: String,
    /// What it says.
    pub what: What,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// `[name]`: what follows belongs to it.
    Group(String),
    /// An option as it is handed to the server, without the dashes: `name` or `name=value`, the value
    /// without quotes and escapes.
    Option(String),
    /// `!include`.
    Include(PathBuf),
    /// `!includedir`.
    Folder(PathBuf),
    /// The server stops reading the file here, as the last entry.
    Broken(Fault),
}

/// Why the server stops reading a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// `[name` without its end.
    #[error("a group has no closing bracket")]
    Group,
    /// An option before the first group.
    #[error("an option stands before the first group")]
    NoGroup,
    /// A directive without a path.
    #[error("a directive has no path")]
    NoPath,
}

/// The lines of a file that say something, in their order, not many more than [`MAX_LINES`].
pub fn parse(bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut in_group = false;
    for (number, line) in (1..).zip(bytes.split_inclusive(|&byte| byte == b'\n')) {
        for chunk in line.chunks(MAX_LINE_BYTES) {
            let Some(what) = statement(chunk, in_group) else { continue };
            in_group |= matches!(what, What::Group(_));
            let broken = matches!(what, What::Broken(_));
            let text = text(trim_end(trim_start(chunk)));
            entries.push(Entry { line: number, text, what });
            if broken || entries.len() > MAX_LINES {
                return entries;
            }
        }
    }
    entries
}

fn statement(chunk: &[u8], in_group: bool) -> Option<What> {
    // To a program in C the line ends at the first NUL.
    let line = chunk.split(|&byte| byte == 0).next().unwrap_or_default();
    let line = trim_start(line);
    match line.first()? {
        b'#' | b';' => None,
        b'!' => directive(trim_start(&line[1..])),
        b'[' => Some(group(&line[1..])),
        _ if !in_group => Some(What::Broken(Fault::NoGroup)),
        _ => Some(What::Option(option(line))),
    }
}

fn group(rest: &[u8]) -> What {
    let mut parts = rest.splitn(2, |&byte| byte == b']');
    match (parts.next(), parts.next()) {
        (Some(name), Some(_)) => What::Group(text(trim_end(name))),
        _ => What::Broken(Fault::Group),
    }
}

/// Unknown directives are passed over.
fn directive(rest: &[u8]) -> Option<What> {
    let keyword = |name: &[u8]| {
        let argument = rest.strip_prefix(name)?;
        argument.first().copied().filter(|&byte| is_space(byte)).map(|_| argument)
    };
    let (argument, folder) = match keyword(b"includedir") {
        Some(argument) => (argument, true),
        None => (keyword(b"include")?, false),
    };
    // The last byte is taken for the end of the line, and is lost where the file ends without one.
    let argument = trim_start(argument);
    let path = trim_end(argument.split_last().map_or(&[][..], |(_, path)| path));
    if path.is_empty() {
        return Some(What::Broken(Fault::NoPath));
    }
    let path = PathBuf::from(OsStr::from_bytes(path));
    Some(if folder { What::Folder(path) } else { What::Include(path) })
}

fn option(line: &[u8]) -> String {
    let line = without_comment(line);
    let Some(equals) = line.iter().position(|&byte| byte == b'=') else {
        return text(trim_end(line));
    };
    let mut whole = trim_end(&line[..equals]).to_vec();
    whole.push(b'=');
    let mut value = trim_end(trim_start(&line[equals + 1..]));
    if let [first @ (b'"' | b'\''), inner @ .., last] = value
        && first == last
    {
        value = inner;
    }
    let mut bytes = value.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        // A backslash at the very end is one.
        let Some(escaped) = (byte == b'\\').then(|| bytes.next()).flatten() else {
            whole.push(byte);
            continue;
        };
        match escaped {
            b'n' => whole.push(b'\n'),
            b't' => whole.push(b'\t'),
            b'r' => whole.push(b'\r'),
            b'b' => whole.push(8),
            b's' => whole.push(b' '),
            b'"' | b'\'' | b'\\' => whole.push(escaped),
            _ => whole.extend([b'\\', escaped]),
        }
    }
    text(&whole)
}

/// A `#` outside quotes ends the line; a backslash counts inside quotes only.
fn without_comment(line: &[u8]) -> &[u8] {
    let mut quote = None;
    let mut escaped = false;
    for (at, &byte) in line.iter().enumerate() {
        if matches!(byte, b'\'' | b'"') && !escaped {
            match quote {
                None => quote = Some(byte),
                Some(open) if open == byte => quote = None,
                Some(_) => {}
            }
        }
        if quote.is_none() && byte == b'#' {
            return &line[..at];
        }
        escaped = quote.is_some() && byte == b'\\' && !escaped;
    }
    line
}

/// Spaces of latin1, the no-break space among them.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ' | 0xa0)
}

fn trim_start(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|&byte| !is_space(byte)).unwrap_or(line.len());
    &line[start..]
}

fn trim_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|&byte| !is_space(byte)).map_or(0, |last| last + 1);
    &line[..end]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Vec<String> {
        parse(text.as_bytes())
            .into_iter()
            .filter_map(|entry| match entry.what {
                What::Option(option) => Some(option),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn values_lose_quotes_escapes_and_comments() {
        let text = "[mysqld]\n\
            a = 1 # one\n\
            ; no\n\
            b=\"x # y\"\n\
            c='it\\'s'   \n\
            d=\\s\\t\\q\\\n\
            \tskip-e  \n\
            f='\n\
            g=\n";
        assert_eq!(
            options(text),
            ["a=1", "b=x # y", "c=it's", "d= \t\\q\\", "skip-e", "f='", "g="]
        );
    }

    #[test]
    fn groups_and_directives() {
        let entries = parse(
            b"!include /a.cnf\n[ mysqld ] x\n! includedir /b/ \n!includedirs /c\n!include /d.cnf",
        );
        let whats: Vec<What> = entries.into_iter().map(|entry| entry.what).collect();
        assert_eq!(
            whats,
            [
                What::Include("/a.cnf".into()),
                What::Group(" mysqld".to_owned()),
                What::Folder("/b/".into()),
                What::Include("/d.cn".into()),
            ]
        );
    }

    #[test]
    fn a_fault_ends_the_file() {
        let last = |text: &[u8]| parse(text).pop().map(|entry| (entry.line, entry.what));
        let broken = |line, fault| Some((line, What::Broken(fault)));
        assert_eq!(last(b"\n[mysqld\n[a]\n"), broken(2, Fault::Group));
        assert_eq!(last(b"x=1\n[a]\n"), broken(1, Fault::NoGroup));
        assert_eq!(last(b"\xef\xbb\xbf[mysqld]\n"), broken(1, Fault::NoGroup));
        assert_eq!(last(b"[a]\n!include \n"), broken(2, Fault::NoPath));
    }

    #[test]
    fn long_lines_are_cut_as_the_server_cuts_them() {
        let text = format!("[mysqld]\na={}b=2\n", "x".repeat(MAX_LINE_BYTES - 2));
        let found = options(&text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], "b=2");
        assert_eq!(options("[mysqld]\na=1\0b\nc=2\n"), ["a=1", "c=2"]);
    }

    #[test]
    fn a_file_of_millions_of_lines_is_not_kept() {
        assert_eq!(parse("[a]\n".repeat(1 << 20).as_bytes()).len(), MAX_LINES + 1);
    }
}
