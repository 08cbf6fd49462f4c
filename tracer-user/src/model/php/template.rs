//! URL templates: `/orders/17/export` and `/orders/18/export` are the same work, and are counted as
//! `/orders/{n}/export`. The query is left out.

use std::fmt::Write as _;

/// Longest template, bytes.
const TEMPLATE_BYTES: usize = 160;
/// Segments that are kept; what follows is `…`.
const SEGMENTS: usize = 10;
/// Hexadecimal digits from here on are an id, if a decimal digit is among them.
const HEX_CHARS: usize = 8;
/// A segment of letters and digits from here on is a token, if …
const TOKEN_CHARS: usize = 20;
/// … it has so many digits.
const TOKEN_DIGITS: usize = 3;
/// A run of digits inside a segment from here on is a number.
const RUN_DIGITS: usize = 3;

/// The template of a URI.
pub fn fold(uri: &str) -> String {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    // Of a URI in absolute form only the path counts.
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => path,
    };
    let mut out = String::with_capacity(path.len().min(TEMPLATE_BYTES));
    for (at, segment) in path.split('/').enumerate() {
        if at > 0 {
            out.push('/');
        }
        if at > SEGMENTS || out.len() + segment.len().min(32) > TEMPLATE_BYTES {
            out.push('…');
            break;
        }
        fold_segment(segment, &mut out);
    }
    out
}

fn fold_segment(segment: &str, out: &mut String) {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let is_word = |extra: &[u8]| {
        segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
    };
    if digits == 0 {
        out.push_str(&segment[..segment.floor_char_boundary(64)]);
        out.push_str(if segment.len() > 64 { "…" } else { "" });
    } else if digits == segment.len() {
        out.push_str("{n}");
    } else if is_hex(segment)
        || (is_word(b"-_") && segment.len() >= TOKEN_CHARS && digits >= TOKEN_DIGITS)
    {
        out.push_str("{id}");
    } else {
        fold_runs(&segment[..segment.floor_char_boundary(64)], out);
    }
}

/// A hash, or a UUID.
fn is_hex(segment: &str) -> bool {
    let hex = segment.bytes().filter(u8::is_ascii_hexdigit).count();
    let rest = segment.len() - hex;
    hex >= HEX_CHARS && (rest == 0 || (rest == 4 && segment.len() == 36 && dashes(segment) == 4))
}

fn dashes(segment: &str) -> usize {
    segment.bytes().filter(|byte| *byte == b'-').count()
}

/// `invoice-2024.pdf` is `invoice-{n}.pdf`; `v2` stays.
fn fold_runs(segment: &str, out: &mut String) {
    let mut rest = segment;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = &rest[start..];
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        out.push_str(&rest[..start]);
        if end >= RUN_DIGITS {
            out.push_str("{n}");
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", &digits[..end]);
        }
        rest = &digits[end..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ids_are_folded_and_words_stay() {
        for (uri, expected) in [
            ("/orders/17/export?format=csv", "/orders/{n}/export"),
            ("/", "/"),
            ("", ""),
            ("*", "*"),
            ("/api/v2/users", "/api/v2/users"),
            ("/files/invoice-2024.pdf", "/files/invoice-{n}.pdf"),
            ("/u/550e8400-e29b-41d4-a716-446655440000/x", "/u/{id}/x"),
            ("/blob/deadbeef01", "/blob/{id}"),
            ("/reset/aZ3kf93mQpLx81TyUe02hs", "/reset/{id}"),
            ("/facade/decade", "/facade/decade"),
            ("http://shop.example/a/1", "/a/{n}"),
            ("http://shop.example", "/"),
            ("//a//1", "//a//{n}"),
            ("/a#1", "/a"),
            ("/é\u{fffd}\u{1b}[2J/7", "/é\u{fffd}\u{1b}[2J/{n}"),
        ] {
            assert_eq!(fold(uri), expected, "{uri}");
        }
    }

    #[test]
    fn templates_are_bounded() {
        for uri in ["/a".repeat(5000), "é1".repeat(5000), format!("/{}", "x".repeat(5000))] {
            let template = fold(&uri);
            assert!(template.len() <= TEMPLATE_BYTES + 70, "{}", template.len());
            assert!(template.ends_with('…') || template.len() < 70, "{template}");
        }
    }
}
