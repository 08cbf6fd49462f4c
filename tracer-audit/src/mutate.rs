//! Damages files, for the tests of the parsers.

use std::time::{Duration, Instant};

use fastrand::Rng;

/// Calls `round` with its number for a second and a half, or for RAMPAGE_FUZZ_SECONDS. None may take long.
/// RAMPAGE_SEED repeats what another run has shown.
pub fn fuzz(mut round: impl FnMut(&mut Rng, u64)) {
    let seconds = std::env::var("RAMPAGE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let time = seconds.map_or(Duration::from_millis(1500), Duration::from_secs);
    let seed = std::env::var("RAMPAGE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("RAMPAGE_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let (started, mut rounds) = (Instant::now(), 0);
    while started.elapsed() < time {
        let before = Instant::now();
        round(&mut rng, rounds);
        assert!(before.elapsed() < Duration::from_secs(5), "round {rounds} takes too long");
        rounds += 1;
    }
    assert!(rounds > 100, "only {rounds} rounds");
    println!("{rounds} rounds");
}

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
