//! The floor of a worker: the least that it has between one request and the next. A leak from
//! request to request lifts it; a large request does not.

/// Most spans of requests that are kept; when there are more, two become one.
const SPANS: usize = 16;
/// A leak is believed from so many spans on …
const LEAST_SPANS: usize = 8;
/// … and from so many requests on.
const LEAST_REQUESTS: u64 = 16;
/// A rise below this is warm-up, bytes.
const LEAST_RISE: u64 = 8 << 20;
/// A floor may fall by this from one span to the next and still rise in all: counters are not
/// exact, bytes.
const NOISE_BYTES: u64 = 768 << 10;

/// The least size of a worker in each of the last spans of requests.
#[derive(Clone, Debug, Default)]
pub(in crate::model) struct Floors {
    spans: Vec<Span>,
    /// Requests in a span.
    length: u64,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    /// Number of its first request.
    first: u64,
    least_bytes: u64,
    most_bytes: u64,
}

/// A floor that rises from request to request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leak {
    /// Requests in which it was watched.
    pub requests: u64,
    /// By how much the floor rose meanwhile, bytes.
    pub risen_bytes: u64,
    /// The floor now, bytes.
    pub floor_bytes: u64,
    /// The most that a request needed above the floor, bytes.
    pub above_bytes: u64,
}

impl Span {
    fn see(&mut self, bytes: u64) {
        self.least_bytes = self.least_bytes.min(bytes);
        self.most_bytes = self.most_bytes.max(bytes);
    }
}

impl Leak {
    /// Bytes that each request leaves behind.
    pub fn per_request(&self) -> f64 {
        self.risen_bytes as f64 / self.requests.max(1) as f64
    }
}

impl Floors {
    /// The worker is in, or after, its request number `number`, and has `bytes`.
    pub fn note(&mut self, number: u64, bytes: u64) {
        match self.spans.last_mut() {
            Some(last) if number < last.first => *self = Self::default(),
            Some(last) if number - last.first < self.length.max(1) => {
                last.see(bytes);
                return;
            }
            _ => {}
        }
        self.length = self.length.max(1);
        if self.spans.len() == SPANS {
            self.spans = self
                .spans
                .chunks(2)
                .map(|pair| {
                    let (first, last) = (pair[0], pair[pair.len() - 1]);
                    Span {
                        first: first.first,
                        least_bytes: first.least_bytes.min(last.least_bytes),
                        most_bytes: first.most_bytes.max(last.most_bytes),
                    }
                })
                .collect();
            self.length *= 2;
            // The last span may have room for this request now.
            return self.note(number, bytes);
        }
        self.spans.push(Span { first: number, least_bytes: bytes, most_bytes: bytes });
    }

    /// The worker has `bytes` in the request that was noted last.
    pub fn see(&mut self, bytes: u64) {
        if let Some(last) = self.spans.last_mut() {
            last.see(bytes);
        }
    }

    /// A rise that goes on: in small steps all the way, the warm-up of the first quarter left out.
    /// The last span is not over and does not count.
    pub fn leak(&self) -> Option<Leak> {
        let spans = &self.spans[..self.spans.len().saturating_sub(1)];
        let spans = &spans[spans.len() / 4..];
        let (first, last) = (spans.first()?, spans.last()?);
        let requests = last.first - first.first;
        let risen_bytes = last.least_bytes.saturating_sub(first.least_bytes);
        if spans.len() < LEAST_SPANS - LEAST_SPANS / 4 - 1
            || requests < LEAST_REQUESTS
            || risen_bytes < LEAST_RISE
        {
            return None;
        }
        let steps = || spans.windows(2).map(|pair| (pair[0].least_bytes, pair[1].least_bytes));
        let falls = steps().any(|(before, after)| after + NOISE_BYTES < before);
        let highest = steps().map(|(before, after)| after.saturating_sub(before)).max()?;
        let late = last.least_bytes.saturating_sub(spans[spans.len() / 2].least_bytes);
        (!falls && highest <= risen_bytes / 2 && late >= risen_bytes / 4).then_some(Leak {
            requests,
            risen_bytes,
            floor_bytes: last.least_bytes,
            above_bytes: spans
                .iter()
                .map(|span| span.most_bytes - span.least_bytes)
                .max()
                .unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    /// Floors after requests that need `peak` more than what is left behind after each.
    fn after(requests: u64, floor: impl Fn(u64) -> u64, peak: u64) -> Floors {
        let mut floors = Floors::default();
        for number in 1..=requests {
            floors.note(number, floor(number) + peak);
            floors.see(floor(number));
        }
        floors
    }

    #[test]
    fn a_steady_leak_is_measured_whatever_the_requests_need() {
        for requests in [40, 300, 100_000] {
            let floors = after(requests, |n| 20 * MIB + n * 512 * KIB, 50 * MIB);
            let leak = floors.leak().unwrap();
            let each = leak.per_request() / KIB as f64;
            assert!((each - 512.0).abs() < 60.0, "{requests}: {each}");
            assert!(leak.requests >= requests / 3 && leak.requests <= requests);
            assert!(floors.spans.len() <= SPANS);
        }
    }

    #[test]
    fn looks_that_skip_requests_tell_the_same() {
        let mut floors = Floors::default();
        for number in (1..2000).step_by(37) {
            floors.note(number, 20 * MIB + number * 100 * KIB);
        }
        let each = floors.leak().unwrap().per_request() / KIB as f64;
        assert!((each - 100.0).abs() < 10.0, "{each}");
    }

    #[test]
    fn what_does_not_go_on_is_no_leak() {
        let flat = after(500, |_| 60 * MIB, 90 * MIB);
        assert_eq!(flat.leak(), None);
        let warm_up = after(500, |n| 20 * MIB + n.min(30) * MIB, 5 * MIB);
        assert_eq!(warm_up.leak(), None);
        let one_step = after(500, |n| if n < 250 { 20 * MIB } else { 90 * MIB }, 5 * MIB);
        assert_eq!(one_step.leak(), None);
        let waves = after(500, |n| 20 * MIB + (n % 100) * MIB, 5 * MIB);
        assert_eq!(waves.leak(), None);
        let small = after(500, |n| 20 * MIB + n * 4 * KIB, 5 * MIB);
        assert_eq!(small.leak(), None);
        assert_eq!(after(9, |n| n * 10 * MIB, 0).leak(), None, "too few");
    }

    #[test]
    fn a_worker_that_counts_anew_is_another_one() {
        let mut floors = after(100, |n| 20 * MIB + n * MIB, 0);
        assert!(floors.leak().is_some());
        floors.note(1, 20 * MIB);
        assert_eq!(floors.leak(), None);
    }
}
