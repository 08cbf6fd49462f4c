//! Lines of a unit file or drop-in, as systemd's config_parse() takes them (src/shared/conf-parser.c of 252):
//! continuation, comments inside it, byte order mark, sections. Owns no key and no value.

/// Longest line with its continuation, bytes.
const LONG_LINE_MAX: usize = 1 << 20;

/// What systemd takes for blanks.
pub const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// A `key=value` of a known section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Without brackets.
    pub section: String,
    /// Without blanks around it.
    pub key: String,
    /// Without blanks around it; continued lines are joined by a blank.
    pub value: String,
    /// From 1: where it begins.
    pub line: u32,
}

/// A file, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// In the order of the file.
    pub assignments: Vec<Assignment>,
    /// Known sections, and the line of their first header.
    pub headers: Vec<(String, u32)>,
    /// Where and why systemd gives up: a unit file then does not load, a drop-in ends there.
    pub refused: Option<(u32, &'static str)>,
}

impl Parsed {
    /// The first header of `section`.
    pub fn header(&self, section: &str) -> Option<u32> {
        self.headers.iter().find(|(name, _)| name == section).map(|&(_, line)| line)
    }
}

/// Takes `bytes` apart; other sections than `sections` are passed over, as systemd does.
pub fn parse(bytes: &[u8], sections: &[&str]) -> Parsed {
    let mut reader = Reader { parsed: Parsed::default(), section: None, sections };
    let mut bom_allowed = true;
    let mut continued: Option<(Vec<u8>, u32)> = None;
    for (index, physical) in physical_lines(bytes).enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        if physical.len() >= LONG_LINE_MAX {
            reader.parsed.refused = Some((number, "the line is too long"));
            return reader.parsed;
        }
        let first = physical.iter().find(|byte| !b" \t\n\r".contains(byte));
        if matches!(first, Some(b'#' | b';')) {
            continue;
        }
        let mut text = physical;
        if let (true, Some(rest)) = (bom_allowed, text.strip_prefix(b"\xef\xbb\xbf")) {
            text = rest;
            bom_allowed = false;
        }
        let (mut whole, begun) = continued.take().unwrap_or((Vec::new(), number));
        whole.extend_from_slice(text);
        if whole.len() > LONG_LINE_MAX {
            reader.parsed.refused = Some((number, "the line with its continuation is too long"));
            return reader.parsed;
        }
        if ends_escaped(&whole) {
            whole.pop();
            whole.push(b' ');
            continued = Some((whole, begun));
            continue;
        }
        if let Err(why) = reader.line(&whole, begun) {
            reader.parsed.refused = Some((begun, why));
            return reader.parsed;
        }
    }
    if let Some((whole, begun)) = continued
        && let Err(why) = reader.line(&whole, begun)
    {
        reader.parsed.refused = Some((begun, why));
    }
    reader.parsed
}

struct Reader<'a> {
    parsed: Parsed,
    /// None before the first header, and in a section that is not known.
    section: Option<String>,
    sections: &'a [&'a str],
}

impl Reader<'_> {
    fn line(&mut self, bytes: &[u8], number: u32) -> Result<(), &'static str> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            // systemd looks at the encoding only of what is no blank line.
            return Err("it is no UTF-8");
        };
        let text = text.trim_matches(WHITESPACE);
        if let Some(rest) = text.strip_prefix('[') {
            let name = rest.strip_suffix(']').ok_or("the section header has no end")?;
            if name.chars().any(|letter| letter.is_ascii_control() || "\"'\\".contains(letter)) {
                return Err("the section header has bad characters");
            }
            self.section = self.sections.contains(&name).then(|| name.to_owned());
            if let Some(section) = &self.section
                && self.parsed.header(section).is_none()
            {
                self.parsed.headers.push((section.clone(), number));
            }
            return Ok(());
        }
        let Some(section) = &self.section else {
            return Ok(());
        };
        let Some((key, value)) = text.split_once('=') else {
            return Ok(());
        };
        let (key, value) = (key.trim_matches(WHITESPACE), value.trim_matches(WHITESPACE));
        if !key.is_empty() {
            self.parsed.assignments.push(Assignment {
                section: section.clone(),
                key: key.to_owned(),
                value: value.to_owned(),
                line: number,
            });
        }
        Ok(())
    }
}

/// An odd number of backslashes at the end; each takes the next byte with it.
fn ends_escaped(text: &[u8]) -> bool {
    text.iter().fold(false, |escaped, &byte| !escaped && byte == b'\\')
}

/// A line ends with newline, return or NUL; a run of different ones of them is one end.
fn physical_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = rest.iter().position(|byte| b"\n\r\0".contains(byte)).unwrap_or(rest.len());
        let line = &rest[..length];
        let mut end = length;
        while end < rest.len()
            && b"\n\r\0".contains(&rest[end])
            && !rest[length..end].contains(&rest[end])
        {
            end += 1;
        }
        rest = &rest[end..];
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String, u32)> {
        let parsed = parse(text.as_bytes(), &["Service"]);
        assert_eq!(parsed.refused, None);
        parsed.assignments.into_iter().map(|one| (one.key, one.value, one.line)).collect()
    }

    #[test]
    fn continuation_skips_comments_and_ends_at_a_blank_line() {
        let text = "[Service]\nA=one \\\n# no\n ; no\n two\\\n\nB=3\nC=x\\\\\nD=4\\ \nE=\\";
        let expected = [
            ("A", "one   two", 2),
            ("B", "3", 7),
            ("C", "x\\\\", 8),
            ("D", "4\\", 9),
            ("E", "", 10),
        ];
        let expected = expected.map(|(key, value, line)| (key.to_owned(), value.to_owned(), line));
        assert_eq!(read(text), expected);
    }

    #[test]
    fn only_known_sections_count() {
        let text = "A=0\n[Unit]\nA=1\n[Service]\n = 5\nnothing\nA = 2 \n[X-Own]\nA=3\n";
        assert_eq!(read(text), [("A".to_owned(), "2".to_owned(), 7)]);
    }

    #[test]
    fn ends_of_lines_are_newline_return_and_nul() {
        let text = "[Service]\r\nA=1\rB=2\0C=3\n\0\rD=4\n\nE=5";
        let lines: Vec<u32> = read(text).into_iter().map(|(_, _, line)| line).collect();
        assert_eq!(lines, [2, 3, 4, 5, 7]);
    }

    #[test]
    fn a_broken_header_ends_the_file() {
        let parsed = parse(b"[Service]\nA=1\n[Service\nB=2\n", &["Service"]);
        assert_eq!(parsed.assignments.len(), 1);
        assert_eq!(parsed.refused.map(|(line, _)| line), Some(3));
        assert_eq!(parsed.header("Service"), Some(1));
        let long = format!("[Service]\nA={}", "x".repeat(LONG_LINE_MAX));
        assert_eq!(parse(long.as_bytes(), &["Service"]).refused.map(|(line, _)| line), Some(2));
    }
}
