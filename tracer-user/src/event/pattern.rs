//! Patterns of names: `*` stands for any characters, also none.

/// Whether all of `text` is matched, in time linear in both.
pub fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    let Some(mut rest) = rest.strip_suffix(last) else { return false };
    // What lies between is best found as early as it comes.
    parts.all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition, in exponential time.
    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|at| by_definition(rest, &text[at..])),
            ([a, pattern @ ..], [b, text @ ..]) => a == b && by_definition(pattern, text),
            _ => false,
        }
    }

    #[test]
    fn a_star_stands_for_anything() {
        let matching = [("www", "www"), ("*", ""), ("*", "ö"), ("w*", "www"), ("*-api", "a-api")];
        assert!(matching.into_iter().all(|(pattern, text)| matches_pattern(pattern, text)));
        let others = [("www", "www2"), ("", "a"), ("a*a", "a"), ("*b*", "a"), ("A", "a")];
        assert!(!others.into_iter().any(|(pattern, text)| matches_pattern(pattern, text)));
    }

    #[test]
    fn it_is_as_defined_for_all_short_patterns() {
        let words = |letters: &[u8], most: u32| {
            let letters = letters.to_vec();
            (0..=most).flat_map(move |length| {
                let letters = letters.clone();
                (0..letters.len().pow(length)).map(move |mut number| {
                    let mut word = Vec::new();
                    for _ in 0..length {
                        word.push(letters[number % letters.len()]);
                        number /= letters.len();
                    }
                    String::from_utf8(word).unwrap()
                })
            })
        };
        for pattern in words(b"ab*", 5) {
            for text in words(b"ab", 5) {
                let expected = by_definition(pattern.as_bytes(), text.as_bytes());
                assert_eq!(matches_pattern(&pattern, &text), expected, "{pattern} {text}");
            }
        }
    }

    #[test]
    fn many_stars_take_no_longer() {
        let text = "a".repeat(100_000);
        assert!(!matches_pattern(&format!("{}b", "a*".repeat(50_000)), &text));
        assert!(matches_pattern(&"a*".repeat(50_000), &text));
    }
}
