//! How a size moves: growth episodes, rates, and how much of the growth is new. Used for the
//! anon + swap of a process and for what is consumed of a limit.

use super::history::History;
use super::lows::{FloorRise, Lows};

/// Movements up to this size are noise: from Linux 6.2 RSS counters are per CPU and differ from
/// the truth by a batch per CPU, up or down.
pub(super) const NOISE_BYTES: u64 = 768 << 10;
/// A fall of less than this does not end an episode, however small the episode is.
const FALL_BYTES: u64 = 1 << 20;
/// An episode without growth for this long is over, ns.
const PLATEAU_NS: u64 = 10_000_000_000;
/// Rates look back this far at most, ns.
pub(super) const WINDOW_NS: u64 = 10_000_000_000;
/// No rate is taken over less than this, ns.
const SHORTEST_NS: u64 = 1_000_000;

/// A size over time.
#[derive(Clone, Debug)]
pub(super) struct Trend {
    history: History,
    lows: Lows,
    episode: Episode,
    last_ns: u64,
    last_bytes: u64,
    /// Rates look back no further, ns.
    settled_ns: u64,
    /// Growth that fades with [`WINDOW_NS`]: what the top lists of growers are ordered by.
    recent_bytes: f32,
}

/// Growth since the last local minimum after which the size did not fall back by more than a
/// quarter of its rise.
#[derive(Clone, Debug)]
struct Episode {
    onset_ns: u64,
    onset_bytes: u64,
    peak_bytes: u64,
    /// When growth beyond noise was last seen, and the size then.
    mark_ns: u64,
    mark_bytes: u64,
    /// Highest size of earlier episodes.
    previous_peak_bytes: u64,
    /// The onset is known only as "since the last report": the next step shows it better.
    vague_onset: bool,
}

impl Trend {
    /// Starts with the first size that is known.
    pub fn new(t_ns: u64, bytes: u64) -> Self {
        let mut history = History::default();
        history.push(t_ns, bytes);
        let episode = Episode {
            onset_ns: t_ns,
            onset_bytes: bytes,
            peak_bytes: bytes,
            mark_ns: t_ns,
            mark_bytes: bytes,
            previous_peak_bytes: 0,
            vague_onset: false,
        };
        Self {
            history,
            lows: Lows::new(t_ns, bytes),
            episode,
            last_ns: t_ns,
            last_bytes: bytes,
            settled_ns: 0,
            recent_bytes: 0.0,
        }
    }

    /// Takes in a size. Changes are reported within `report_ns`: when the last news are older, the
    /// size moved only in the last `report_ns`.
    pub fn observe(&mut self, t_ns: u64, bytes: u64, report_ns: u64) {
        let t_ns = t_ns.max(self.last_ns);
        let held_ns = self.last_ns.max(t_ns.saturating_sub(report_ns));
        if held_ns > self.last_ns {
            self.history.push(held_ns, self.last_bytes);
        }
        if held_ns == self.last_ns
            && self.episode.sharpen_onset(t_ns, bytes, held_ns, self.last_bytes)
        {
            self.history.delay_before_last(self.episode.onset_ns);
        }
        self.history.push(t_ns, bytes);
        self.lows.push(t_ns, bytes);
        self.episode.update(t_ns, bytes, held_ns, self.last_bytes);
        let grown = bytes as f32 - self.last_bytes as f32;
        self.recent_bytes = (self.recent_at(t_ns) + grown).max(0.0);
        self.last_ns = t_ns;
        self.last_bytes = bytes;
    }

    /// Starts anew with the last size: it came about in a gap without events, nobody knows when.
    /// What was before is still known.
    pub fn settle(&mut self) {
        self.episode.restart(self.last_ns, self.last_bytes);
        self.settled_ns = self.last_ns;
        self.lows = Lows::new(self.last_ns, self.last_bytes);
        self.recent_bytes = 0.0;
    }

    /// Size at a time, interpolated.
    pub fn size_at(&self, t_ns: u64) -> u64 {
        if t_ns >= self.last_ns { self.last_bytes } else { self.history.size_at(t_ns) }
    }

    /// Growth of the recent past, fading, bytes.
    pub fn recent_at(&self, t_ns: u64) -> f32 {
        let age = t_ns.saturating_sub(self.last_ns) as f32 / WINDOW_NS as f32;
        self.recent_bytes / (1.0 + age)
    }

    /// Bytes per second over the episode, at most the last ten seconds; without growth over the
    /// last ten seconds, where it may be negative. Zero when no news came for 1.5 reports.
    pub fn rate(&self, now_ns: u64, report_ns: u64) -> f64 {
        if now_ns.saturating_sub(self.last_ns) > report_ns + report_ns / 2 {
            return 0.0;
        }
        let since = self.last_ns.saturating_sub(WINDOW_NS).max(self.settled_ns);
        if self.episode.is_rising() && self.episode.onset_ns >= since {
            let (from_ns, from_bytes) = (self.episode.onset_ns, self.episode.onset_bytes);
            return per_second(from_bytes, self.last_bytes, self.last_ns - from_ns);
        }
        let from_bytes = self.history.size_at(since);
        if !self.episode.is_rising() && from_bytes.abs_diff(self.last_bytes) < NOISE_BYTES {
            return 0.0;
        }
        per_second(from_bytes, self.last_bytes, WINDOW_NS)
    }

    /// The rise of what it never falls below; None = it does not rise evenly.
    pub fn floor_rise(&self) -> Option<FloorRise> {
        self.lows.rise()
    }

    /// Start of the episode, ns; the present size when nothing grows.
    pub fn onset_ns(&self) -> u64 {
        self.episode.onset_ns
    }

    /// When growth beyond noise was last seen, ns.
    pub fn last_growth_ns(&self) -> u64 {
        self.episode.mark_ns
    }

    /// Growth since the onset, bytes.
    pub fn grown_bytes(&self) -> u64 {
        self.last_bytes.saturating_sub(self.episode.onset_bytes)
    }

    /// How long the episode grew, s.
    pub fn growing_s(&self) -> f64 {
        self.episode.mark_ns.saturating_sub(self.episode.onset_ns) as f64 / 1e9
    }

    /// Growth beyond the onset and beyond every height that was reached before, bytes.
    pub fn novel_bytes(&self) -> u64 {
        self.last_bytes
            .saturating_sub(self.episode.onset_bytes.max(self.episode.previous_peak_bytes))
    }
}

impl Episode {
    fn is_rising(&self) -> bool {
        self.peak_bytes - self.onset_bytes >= NOISE_BYTES
    }

    /// `held`: when and what the size was before it moved to `bytes`.
    fn update(&mut self, t_ns: u64, bytes: u64, held_ns: u64, held_bytes: u64) {
        if self.is_rising() && held_ns.saturating_sub(self.mark_ns) > PLATEAU_NS {
            self.restart(held_ns, held_bytes);
        }
        if bytes <= self.onset_bytes {
            self.restart(t_ns, bytes);
        } else if !self.is_rising() {
            if bytes - self.onset_bytes < NOISE_BYTES {
                self.peak_bytes = self.peak_bytes.max(bytes);
                self.onset_ns = t_ns;
                self.mark_ns = t_ns;
            } else {
                self.onset_ns = self.onset_ns.max(held_ns);
                self.vague_onset = true;
                self.rise(t_ns, bytes);
            }
        } else if bytes > self.peak_bytes {
            self.vague_onset = false;
            self.rise(t_ns, bytes);
        } else {
            let rise = self.peak_bytes - self.onset_bytes;
            if self.peak_bytes - bytes > (rise / 4).max(FALL_BYTES) {
                self.restart(t_ns, bytes);
            }
        }
    }

    fn rise(&mut self, t_ns: u64, bytes: u64) {
        self.peak_bytes = bytes;
        if bytes >= self.mark_bytes.saturating_add(NOISE_BYTES) {
            self.mark_ns = t_ns;
            self.mark_bytes = bytes;
        }
    }

    /// The first report of a rise may come long after the last report before it. At the pace of
    /// the second step the first one took less: growth began later. True = the onset moved.
    fn sharpen_onset(&mut self, t_ns: u64, bytes: u64, held_ns: u64, held_bytes: u64) -> bool {
        if !self.vague_onset || bytes <= held_bytes {
            return false;
        }
        let pace = (bytes - held_bytes) as f64 / (t_ns - held_ns).max(1) as f64;
        let took_ns = held_bytes.saturating_sub(self.onset_bytes) as f64 / pace;
        let onset_ns = held_ns.saturating_sub(took_ns as u64);
        let moved = onset_ns > self.onset_ns;
        self.onset_ns = self.onset_ns.max(onset_ns);
        moved
    }

    fn restart(&mut self, t_ns: u64, bytes: u64) {
        if self.is_rising() {
            self.previous_peak_bytes = self.previous_peak_bytes.max(self.peak_bytes);
        }
        self.onset_ns = t_ns;
        self.onset_bytes = bytes;
        self.peak_bytes = bytes;
        self.mark_ns = t_ns;
        self.mark_bytes = bytes;
        self.vague_onset = false;
    }
}

/// Finite whatever the span.
pub(super) fn per_second(from_bytes: u64, to_bytes: u64, span_ns: u64) -> f64 {
    (to_bytes as f64 - from_bytes as f64) * 1e9 / span_ns.max(SHORTEST_NS) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const MS: u64 = 1_000_000;
    const MIB: u64 = 1 << 20;

    /// Feeds (ms, MiB).
    fn trend(points: &[(u64, u64)]) -> Trend {
        let mut trend = Trend::new(points[0].0 * MS, points[0].1 * MIB);
        for (ms, mib) in &points[1..] {
            trend.observe(ms * MS, mib * MIB, S);
        }
        trend
    }

    #[test]
    fn a_steady_rise_is_one_episode() {
        let points: Vec<_> = (0..=30).map(|s| (s * 1000, 10 + 5 * s)).collect();
        let trend = trend(&points);
        assert_eq!(trend.onset_ns(), 0);
        assert_eq!(trend.grown_bytes(), 150 * MIB);
        assert_eq!(trend.novel_bytes(), 150 * MIB);
        assert_eq!(trend.growing_s(), 30.0);
        let rate = trend.rate(30 * S, S) / MIB as f64;
        assert!((rate - 5.0).abs() < 0.2, "{rate}");
    }

    #[test]
    fn silence_means_that_nothing_grows() {
        let trend = trend(&[(0, 10), (1000, 60)]);
        assert!(trend.rate(2400 * MS, S) > 0.0);
        assert_eq!(trend.rate(2600 * MS, S), 0.0);
    }

    #[test]
    fn a_burst_after_silence_began_with_the_burst() {
        let mut points = vec![(0, 10), (60_000, 10), (60_900, 14)];
        points.extend((1..20).map(|i| (60_900 + 10 * i, 14 + 4 * i)));
        let trend = trend(&points);
        let onset_ms = trend.onset_ns() / MS;
        assert!((60_889..=60_891).contains(&onset_ms), "{onset_ms}");
        let rate = trend.rate(61_090 * MS, S) / MIB as f64;
        assert!((rate - 400.0).abs() < 10.0, "{rate}");
    }

    #[test]
    fn a_fall_by_a_quarter_ends_the_episode_and_keeps_its_peak() {
        let trend = trend(&[(0, 10), (1000, 110), (2000, 86), (3000, 111)]);
        assert_eq!((trend.onset_ns(), trend.novel_bytes()), (0, 101 * MIB));
        let trend = self::trend(&[(0, 10), (1000, 110), (2000, 84), (3000, 109)]);
        assert_eq!((trend.onset_ns(), trend.grown_bytes()), (2 * S, 25 * MIB));
        assert_eq!(trend.novel_bytes(), 0);
        let trend = self::trend(&[(0, 10), (1000, 110), (2000, 20), (3000, 115)]);
        assert_eq!(trend.novel_bytes(), 5 * MIB);
    }

    #[test]
    fn a_plateau_ends_the_episode() {
        let mut points = vec![(0, 10), (1000, 110)];
        points.extend((2..15).map(|s| (s * 1000, 110)));
        points.push((15_000, 120));
        points.push((16_000, 130));
        let trend = trend(&points);
        assert_eq!(trend.grown_bytes(), 20 * MIB);
        assert!(trend.growing_s() <= 2.0);
        // The same when it was silent instead.
        let trend = self::trend(&[(0, 10), (1000, 110), (60_000, 120), (61_000, 130)]);
        assert_eq!((trend.grown_bytes(), trend.onset_ns()), (20 * MIB, 59 * S));
    }

    #[test]
    fn noise_is_no_growth() {
        let mut trend = Trend::new(0, 100 * MIB);
        for i in 0..6000_u64 {
            let noise = (i * 7919) % (512 << 10);
            trend.observe(i * 10 * MS, 100 * MIB - (256 << 10) + noise, S);
            assert_eq!(trend.rate(i * 10 * MS, S), 0.0);
        }
        assert!(trend.novel_bytes() < MIB);
        assert!(trend.growing_s() < 1.0);
    }

    #[test]
    fn a_shrinking_size_has_a_negative_rate() {
        let trend = trend(&[(0, 200), (1000, 150), (2000, 100)]);
        assert!(trend.rate(2 * S, S) < 0.0);
        assert_eq!(trend.novel_bytes(), 0);
    }

    #[test]
    fn growing_time_stops_with_the_growth() {
        let trend = trend(&[(0, 10), (1000, 60), (2000, 110), (3000, 110), (4000, 110)]);
        assert_eq!(trend.growing_s(), 2.0);
    }
}
