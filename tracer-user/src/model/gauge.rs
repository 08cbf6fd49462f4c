//! What is consumed of one limit, memory and swap together: sampled, carried on between the samples by the known growth of
//! its processes, and who grows most below it.

use super::bound::Bound;
use super::growers::Growers;
use super::lows::FloorRise;
use super::stalls::Stalls;
use super::trend::{NOISE_BYTES, Trend, per_second};

/// A reading of reclaimable memory is believed for this long, ns.
const RECLAIMABLE_NS: u64 = 3_000_000_000;

/// A limit's consumption. Consumed = charge (swap included) - what can be reclaimed.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge {
    /// The limit that is met next.
    pub bound: Option<Bound>,
    /// Who grows below it.
    pub growers: Growers,
    /// Waiting for it; None = nobody ever waited.
    pub stalls: Option<Box<Stalls>>,
    sampled: bool,
    consumed: Sample,
    /// Charge, an upper bound of what is consumed, sampled more often.
    charge: Sample,
    reclaimable_bytes: u64,
    /// Sum of all movements of anon + swap of its processes.
    private_bytes: i64,
    trend: Option<Box<Trend>>,
    first: Sample,
}

/// A value, when it was read, and [`Gauge::private_bytes`] then.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    t_ns: u64,
    bytes: u64,
    private_bytes: i64,
}

/// Net growth over some time and over each half of it, bytes per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Over all of it.
    pub whole: f64,
    /// Over the first and the second half.
    pub halves: [f64; 2],
}

impl Rates {
    /// The lowest of the three.
    pub fn low(&self) -> f64 {
        self.halves.into_iter().fold(self.whole, f64::min)
    }

    /// The highest.
    pub fn high(&self) -> f64 {
        self.halves.into_iter().fold(self.whole, f64::max)
    }
}

impl Gauge {
    /// Takes in a reading of the charge, swap included, and of what is reclaimable if that was read too.
    pub fn sample(&mut self, t_ns: u64, charge: u64, reclaimable: Option<u64>, report_ns: u64) {
        self.charge = Sample { t_ns, bytes: charge, private_bytes: self.private_bytes };
        if let Some(reclaimable) = reclaimable {
            self.reclaimable_bytes = reclaimable;
            self.consumed = Sample { bytes: charge.saturating_sub(reclaimable), ..self.charge };
        } else if !self.sampled || t_ns.saturating_sub(self.consumed.t_ns) > RECLAIMABLE_NS {
            let bytes = charge.saturating_sub(self.reclaimable_bytes);
            let t_ns = self.consumed.t_ns;
            self.consumed = Sample { t_ns, bytes, ..self.charge };
        }
        if !self.sampled {
            self.sampled = true;
            self.first = Sample { t_ns, ..self.consumed };
        }
        self.observe(t_ns, report_ns);
    }

    /// A process below it moved.
    pub fn moved(&mut self, t_ns: u64, bytes: i64, report_ns: u64) {
        self.private_bytes = self.private_bytes.saturating_add(bytes);
        if self.sampled && self.bound.is_some() {
            self.observe(t_ns, report_ns);
        }
    }

    /// What moved until now moved in a gap without events: no rate is taken over it.
    pub fn settle(&mut self) {
        if let Some(trend) = &mut self.trend {
            trend.settle();
        }
    }

    /// A process left with what it had: nothing is known of the charge until the next sample.
    pub fn left(&mut self, bytes: i64) {
        self.private_bytes = self.private_bytes.saturating_sub(bytes);
    }

    /// Consumed now: the last sample, carried on by what its processes grew since, never below it.
    /// None = never sampled.
    pub fn consumed_bytes(&self) -> Option<u64> {
        self.sampled.then(|| {
            let most = self.carried_on(&self.charge);
            self.carried_on(&self.consumed).min(most).max(self.consumed.bytes)
        })
    }

    /// What still fits. None = no limit, or never sampled.
    pub fn headroom_bytes(&self) -> Option<u64> {
        Some(self.bound?.capacity_bytes.saturating_sub(self.consumed_bytes()?))
    }

    /// Net growth over the limit's own episode, at most the last ten seconds, bytes per second.
    pub fn rate(&self, now_ns: u64, report_ns: u64) -> f64 {
        self.trend.as_ref().map_or(0.0, |trend| trend.rate(now_ns, report_ns))
    }

    /// The rise of the least that was consumed; None = it does not rise evenly.
    pub fn floor_rise(&self) -> Option<FloorRise> {
        self.trend.as_ref()?.floor_rise()
    }

    /// Net growth since a time within the last minute, bytes per second.
    pub fn rate_since(&self, since_ns: u64, now_ns: u64) -> f64 {
        let now = self.consumed_bytes().unwrap_or(0);
        per_second(self.consumed_at(since_ns), now, now_ns.saturating_sub(since_ns))
    }

    /// Net growth since a time within the last minute, and over each half of the time since.
    pub fn rates_since(&self, since_ns: u64, now_ns: u64) -> Rates {
        let half_ns = now_ns.saturating_sub(since_ns) / 2;
        let middle_ns = since_ns.saturating_add(half_ns);
        let (first, middle) = (self.consumed_at(since_ns), self.consumed_at(middle_ns));
        let last = self.consumed_bytes().unwrap_or(0);
        Rates {
            whole: self.rate_since(since_ns, now_ns),
            halves: [per_second(first, middle, half_ns), per_second(middle, last, half_ns)],
        }
    }

    /// Net rise since a time within the last minute, bytes; 0 when it fell.
    pub fn rise_since(&self, since_ns: u64) -> u64 {
        self.consumed_bytes().unwrap_or(0).saturating_sub(self.consumed_at(since_ns))
    }

    fn consumed_at(&self, t_ns: u64) -> u64 {
        match &self.trend {
            Some(trend) => trend.size_at(t_ns),
            None => self.consumed_bytes().unwrap_or(0),
        }
    }

    fn carried_on(&self, sample: &Sample) -> u64 {
        sample
            .bytes
            .saturating_add_signed(self.private_bytes.saturating_sub(sample.private_bytes).max(0))
    }

    fn observe(&mut self, t_ns: u64, report_ns: u64) {
        let Some(bytes) = self.consumed_bytes() else { return };
        if self.trend.is_none() && bytes.abs_diff(self.first.bytes) >= NOISE_BYTES / 2 {
            self.trend = Some(Box::new(Trend::new(self.first.t_ns, self.first.bytes)));
        }
        if let Some(trend) = &mut self.trend {
            trend.observe(t_ns, bytes, report_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const MIB: u64 = 1 << 20;

    fn gauge() -> Gauge {
        let bound = Bound { limit_bytes: 256 * MIB, capacity_bytes: 256 * MIB, ..Bound::default() };
        let mut gauge = Gauge { bound: Some(bound), ..Gauge::default() };
        gauge.sample(0, 120 * MIB, Some(20 * MIB), S);
        gauge
    }

    fn moved(gauge: &mut Gauge, t_ns: u64, mib: i64) {
        gauge.moved(t_ns, mib << 20, S);
    }

    #[test]
    fn reclaimable_memory_is_room() {
        assert_eq!(gauge().headroom_bytes(), Some(156 * MIB));
        assert_eq!(Gauge::default().headroom_bytes(), None);
    }

    #[test]
    fn growth_since_the_sample_counts_and_shrinking_does_not() {
        let mut gauge = gauge();
        moved(&mut gauge, S / 2, 50);
        assert_eq!(gauge.headroom_bytes(), Some(106 * MIB));
        moved(&mut gauge, S, -80);
        assert_eq!(gauge.headroom_bytes(), Some(156 * MIB));
        gauge.sample(S, 100 * MIB, Some(20 * MIB), S);
        assert_eq!(gauge.headroom_bytes(), Some(176 * MIB));
    }

    #[test]
    fn at_the_limit_growth_eats_what_is_reclaimable() {
        let mut gauge = gauge();
        gauge.sample(S, 256 * MIB, Some(200 * MIB), S);
        moved(&mut gauge, S + S / 2, 60);
        gauge.sample(S + S / 2, 256 * MIB, None, S);
        assert_eq!(gauge.consumed_bytes(), Some(116 * MIB));
    }

    #[test]
    fn the_charge_bounds_what_is_carried_on() {
        let mut gauge = gauge();
        gauge.sample(S, 100 * MIB, Some(0), S);
        moved(&mut gauge, S + 1, 40);
        gauge.sample(S + 2, 110 * MIB, None, S);
        assert_eq!(gauge.consumed_bytes(), Some(110 * MIB));
    }

    #[test]
    fn without_news_of_reclaimable_memory_the_charge_counts() {
        let mut gauge = gauge();
        gauge.sample(5 * S, 220 * MIB, None, S);
        assert_eq!(gauge.consumed_bytes(), Some(200 * MIB));
    }

    #[test]
    fn the_range_of_a_rate_spans_its_halves() {
        let mut gauge = gauge();
        for s in 1..=10 {
            let grown = if s <= 5 { 10 * s } else { 50 + 30 * (s - 5) };
            gauge.sample(s * S, (120 + grown) * MIB, Some(20 * MIB), S);
        }
        let rates = gauge.rates_since(0, 10 * S);
        let (low, high) = (rates.low() / MIB as f64, rates.high() / MIB as f64);
        assert!((low - 10.0).abs() < 2.0 && (high - 30.0).abs() < 2.0, "{low} to {high}");
    }

    #[test]
    fn the_rate_is_net() {
        let mut gauge = gauge();
        for s in 1..=10 {
            gauge.sample(s * S, (120 + 30 * s) * MIB, Some((20 + 10 * s) * MIB), S);
        }
        let rate = gauge.rate(10 * S, S) / MIB as f64;
        assert!((rate - 20.0).abs() < 1.0, "{rate}");
        let rise = gauge.rise_since(5 * S) / MIB;
        assert!((95..=105).contains(&rise), "{rise}");
    }
}
