//! Damages files, for the tests of the parsers.

use fastrand::Rng;

/// Damages `text` once: a byte flipped, a part cut, doubled or moved, NULs, huge numbers, deep nesting.
pub fn mutate(text: &mut Vec<u8>, rng: &mut Rng) {
    let place = |rng: &mut Rng, text: &[u8]| rng.usize(..=text.len());
    let (mut from, mut to) = (place(rng, text), place(rng, text));
    if from > to {
        (from, to) = (to, from);
    }
    to = to.min(from + 200);
    match rng.u8(..8) {
        0 if from < text.len() => text[from] ^= 1 << rng.u8(..8),
        1 => drop(text.drain(from..to)),
        2 => {
            let part = text[from..to].to_vec();
            text.splice(from..from, part);
        }
        3 => drop(text.splice(from..from, [0; 3])),
        4 => drop(text.splice(from..from, *b"99999999999999999999999")),
        5 => {
            let byte = *rng.choice(b"([{\"'\\$;#=~!<>&|\n\r").unwrap_or(&b'(');
            let many = rng.usize(1..300);
            text.splice(from..from, std::iter::repeat_n(byte, many));
        }
        6 => text.truncate(from),
        _ => {
            let part: Vec<u8> = text.drain(from..to).collect();
            let at = place(rng, text);
            text.splice(at..at, part);
        }
    }
}
