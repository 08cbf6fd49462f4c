//! Lines and words of Apache's files, and the conditions of its sections.

/// Lines with the number of their first part; one that ends in a backslash goes on in the next.
pub fn lines(text: &[u8]) -> Vec<(u32, String)> {
    let mut lines = Vec::new();
    let mut whole = String::new();
    let mut begin = 1;
    let mut continued = false;
    let mut rest = text.split(|&byte| byte == b'\n').zip(1_u32..).peekable();
    while let Some((line, number)) = rest.next() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !continued {
            begin = number;
        }
        // In a last line that does not end the backslash is a letter.
        continued = line.ends_with(b"\\") && rest.peek().is_some();
        let part = if continued { &line[..line.len() - 1] } else { line };
        whole.push_str(&String::from_utf8_lossy(part));
        if !continued {
            lines.push((begin, std::mem::take(&mut whole).trim().to_owned()));
        }
    }
    lines
}

/// The first word, quotes taken off, and what follows it.
pub fn word(text: &str) -> (String, &str) {
    let text = text.trim_start();
    let quote = text.chars().next().filter(|letter| matches!(letter, '"' | '\''));
    let Some(quote) = quote else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return (text[..end].to_owned(), text[end..].trim_start());
    };
    let mut out = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            return (out, text[at + 1..].trim_start());
        }
        match letters.peek() {
            Some(&(_, next)) if letter == '\\' && (next == quote || next == '\\') => {
                out.push(next);
                letters.next();
            }
            _ => out.push(letter),
        }
    }
    (out, "")
}

/// Whether `holds` of the first word; with a `!` in front, whether it does not.
pub fn negated(args: &str, holds: impl Fn(&str) -> bool) -> bool {
    let (word, _) = word(args);
    match word.strip_prefix('!') {
        Some(rest) => !holds(rest.trim()),
        None => holds(&word),
    }
}

/// `<IfVersion >= 2.4>`, for any 2.4.
pub fn version(args: &str) -> bool {
    let (operator, number) = args.trim().split_once(char::is_whitespace).unwrap_or(("=", args));
    let (not, operator) = match operator.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, operator),
    };
    let mut parts = number.trim().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let wanted = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let holds = match operator {
        ">" => (2, 4) > wanted,
        ">=" => (2, 4) >= wanted,
        "<" => (2, 4) < wanted,
        "<=" => (2, 4) <= wanted,
        _ => (2, 4) == wanted,
    };
    holds != not
}
