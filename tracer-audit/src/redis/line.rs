//! Words of a line, with quotes and escapes as redis reads them (src/sds.c: sdssplitargs).

/// The words of `line`; None where a quote is not closed, or is followed by something else than a blank.
pub fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = &rest[rest.iter().take_while(|&&byte| is_space(byte)).count()..];
        if rest.is_empty() {
            return Some(words);
        }
        let (word, left) = word(rest)?;
        words.push(word);
        rest = left;
    }
}

/// One word, which may begin with plain text and end in quotes: the end of the quotes is its end.
fn word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Some((word, rest)),
            [b' ' | b'\n' | b'\r' | b'\t', left @ ..] => return Some((word, left)),
            [quote @ (b'"' | b'\''), left @ ..] => {
                let left =
                    if *quote == b'"' { double(left, &mut word) } else { single(left, &mut word) }?;
                return left.first().is_none_or(|&byte| is_space(byte)).then_some((word, left));
            }
            [byte, left @ ..] => {
                word.push(*byte);
                rest = left;
            }
        }
    }
}

fn double<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, left) = match rest {
            [b'\\', b'x', high, low, left @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                (hex(*high)? * 16 + hex(*low)?, left)
            }
            [b'\\', escaped, left @ ..] => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                };
                (byte, left)
            }
            [b'"', left @ ..] => return Some(left),
            [byte, left @ ..] => (*byte, left),
            [] => return None,
        };
        word.push(byte);
        rest = left;
    }
}

fn single<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, left) = match rest {
            [b'\\', b'\'', left @ ..] => (b'\'', left),
            [b'\'', left @ ..] => return Some(left),
            [byte, left @ ..] => (*byte, left),
            [] => return None,
        };
        word.push(byte);
        rest = left;
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// isspace(3) of the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

/// A word in quotes that reads as itself again.
pub fn quoted(word: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for &byte in word {
        if matches!(byte, b'"' | b'\\') {
            text.push(b'\\');
        }
        if byte == b'\n' { text.extend(b"\\n") } else { text.push(byte) }
    }
    text.extend(b"\" ");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Option<Vec<String>> {
        let words = words(line.as_bytes())?;
        Some(words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    }

    fn all(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn words_are_those_of_redis() {
        assert_eq!(split("save 900  1"), all(&["save", "900", "1"]));
        assert_eq!(split("a \"b c\" 'd e'"), all(&["a", "b c", "d e"]));
        assert_eq!(split("a \"\\x41\\n\\q\\\"\""), all(&["a", "A\nq\""]));
        assert_eq!(split("a 'it\\'s \\n'"), all(&["a", "it's \\n"]));
        assert_eq!(split("a b\"c d\""), all(&["a", "bc d"]));
        assert_eq!(split("save \"\""), all(&["save", ""]));
        assert_eq!(split("a\x0bb \x0b c"), all(&["a\x0bb", "c"]));
        assert_eq!(split(""), all(&[]));
    }

    #[test]
    fn quotes_must_be_closed_and_end_the_word() {
        for line in ["a \"b", "a 'b", "a \"b\"c", "a 'b'c", "a \"b\\", "a \"b\\\""] {
            assert_eq!(split(line), None, "{line}");
        }
    }
}
