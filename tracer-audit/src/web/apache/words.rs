//! Lines and words of Apache's files, and the conditions of its sections.

/// What Apache takes for a blank.
fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t'..='\r')
}

/// Lines with the number of their first part; one that ends in a backslash goes on in the next.
pub fn lines(text: &[u8]) -> impl Iterator<Item = (u32, String)> {
    let mut rest = text.split(|&byte| byte == b'\n').zip(1_u32..).peekable();
    std::iter::from_fn(move || {
        let mut whole = String::new();
        let mut begin = None;
        while let Some((line, number)) = rest.next() {
            let begin = *begin.get_or_insert(number);
            // What follows a NUL is not seen, nor is the end of the line.
            let end = line.iter().position(|&byte| byte == 0);
            let line = &line[..end.unwrap_or(line.len())];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            // In a last line that does not end the backslash is a letter.
            let continued = line.ends_with(b"\\") && end.is_none() && rest.peek().is_some();
            let part = if continued { &line[..line.len() - 1] } else { line };
            whole.push_str(&String::from_utf8_lossy(part));
            if !continued {
                return Some((begin, whole.trim_matches(is_blank).to_owned()));
            }
        }
        None
    })
}

/// The first word, quotes taken off, and what follows it.
pub fn word(text: &str) -> (String, &str) {
    let text = text.trim_start_matches(is_blank);
    let quote = text.chars().next().filter(|letter| matches!(letter, '"' | '\''));
    let Some(quote) = quote else {
        let end = text.find(is_blank).unwrap_or(text.len());
        return (text[..end].replace("\\\\", "\\"), text[end..].trim_start_matches(is_blank));
    };
    let mut out = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            return (out, text[at + 1..].trim_start_matches(is_blank));
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

/// `<IfVersion >= 2.4>`, for the newest 2.4: a part that is left out is zero.
pub fn version(args: &str) -> bool {
    let own = [2, 4, u32::MAX];
    let (operator, number) = args.trim().split_once(is_blank).unwrap_or(("=", args));
    let (not, operator) = match operator.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, operator),
    };
    let mut parts = number.trim().split('.').map(|part| part.parse().unwrap_or(0));
    let wanted = [0; 3].map(|zero: u32| parts.next().unwrap_or(zero));
    let holds = match operator {
        ">" => own > wanted,
        ">=" => own >= wanted,
        "<" => own < wanted,
        "<=" => own <= wanted,
        _ => own == wanted,
    };
    holds != not
}
