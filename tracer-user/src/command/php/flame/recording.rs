//! What a recording saw, added up, and how it is said.

use std::time::Duration;

use super::file::Heading;
use super::folded::Growth;
use super::watch::Step;
use crate::text::{bytes, printable, seconds};

/// What a recording saw.
#[derive(Debug, Default)]
pub struct Recording {
    /// Growth, and where it was seen.
    pub growth: Growth,
    /// What was given back meanwhile.
    pub shrunk_bytes: u64,
    /// Samples or looks that were taken.
    pub seen: u64,
    /// Why there were looks after the growth; None = the kernel sampled it.
    pub late: Option<String>,
    /// How long it was recorded.
    pub took: Duration,
    /// The process has ended.
    pub ended: bool,
}

impl Recording {
    /// Adds what the watch saw.
    pub fn add(&mut self, step: Step) {
        self.seen += u64::from(step.seen);
        self.shrunk_bytes = self.shrunk_bytes.saturating_add(step.shrunk_bytes);
        self.growth.add(step.place, step.grown_bytes);
    }

    /// `298 samples`.
    pub fn witnesses(&self) -> String {
        let one = if self.late.is_none() { "sample" } else { "look" };
        format!("{} {one}{}", self.seen, if self.seen == 1 { "" } else { "s" })
    }

    /// That places are not exact, and why.
    pub fn caveat(&self) -> Option<String> {
        let why = printable(self.late.as_ref()?);
        Some(format!("places are those seen up to 15 ms after the growth: {why}"))
    }

    /// `in 10 s`, `in 3.1 s, until it ended`.
    fn period(&self) -> String {
        let until = if self.ended { ", until it ended" } else { "" };
        format!("in {}{until}", seconds(self.took.as_secs_f64()))
    }

    /// `worker 4242 grew 312 MiB in 10 s; 298 MiB of it (96 %) seen in 41 stacks`.
    pub fn summary(&self, tgid: u32) -> String {
        let growth = &self.growth;
        if growth.bytes == 0 {
            return format!("worker {tgid} did not grow {}", self.period());
        }
        let others = match growth.other_bytes {
            0 => String::new(),
            others => format!(", {} in (other stacks)", bytes(others)),
        };
        format!(
            "worker {tgid} grew {} {}; {} of it ({} %) seen in {} stack{}{others}",
            bytes(growth.bytes),
            self.period(),
            bytes(growth.code_bytes),
            percent(growth.code_bytes, growth.bytes),
            growth.code_stacks(),
            if growth.code_stacks() == 1 { "" } else { "s" },
        )
    }

    /// What stands above the flames.
    pub fn heading(&self, tgid: u32) -> Heading {
        let growth = &self.growth;
        let nowhere = growth.bytes - growth.code_bytes;
        let shrunk = match self.shrunk_bytes {
            0 => String::new(),
            shrunk => format!("; it gave back {} meanwhile, which is not shown", bytes(shrunk)),
        };
        let caveat = self.caveat().map(|caveat| format!("; {caveat}")).unwrap_or_default();
        Heading {
            title: format!("PHP worker {tgid}: bytes grown {}", self.period()),
            subtitle: format!(
                "{} grown, {}; {} ({} %) not seen in PHP code{shrunk}{caveat}",
                bytes(growth.bytes),
                self.witnesses(),
                bytes(nowhere),
                percent(nowhere, growth.bytes),
            ),
        }
    }
}

/// Rounded, but 0 and 100 only where it is none and all.
fn percent(part: u64, whole: u64) -> u64 {
    if part == 0 || part >= whole {
        return if part == 0 { 0 } else { 100 };
    }
    let exact = part as f64 * 100.0 / whole as f64;
    (exact.round() as u64).clamp(1, 99)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::php::flame::folded::Place;
    use crate::php::Reason;

    fn step(grown_bytes: u64, reason: Option<Reason>) -> Step {
        let place = reason.map_or_else(
            || Place { stack: "GET /;f  /f.php:2".to_owned(), is_code: true },
            |reason| Place::unread(&reason),
        );
        Step { grown_bytes, shrunk_bytes: 1 << 20, place, seen: true }
    }

    #[test]
    fn what_was_seen_is_said_with_what_was_not() {
        let mut recording = Recording { took: Duration::from_secs(10), ..Recording::default() };
        assert_eq!(recording.summary(7), "worker 7 did not grow in 10 s");
        recording.add(step(298 << 20, None));
        recording.add(step(14 << 20, Some(Reason::SwappedOut)));
        assert_eq!(
            recording.summary(7),
            "worker 7 grew 312 MiB in 10 s; 298 MiB of it (96 %) seen in 1 stack"
        );
        recording.ended = true;
        let heading = recording.heading(7);
        assert_eq!(heading.title, "PHP worker 7: bytes grown in 10 s, until it ended");
        assert_eq!(
            heading.subtitle,
            "312 MiB grown, 2 samples; 14.0 MiB (4 %) not seen in PHP code; it gave back 2.0 MiB \
             meanwhile, which is not shown"
        );
        assert_eq!(recording.caveat(), None);
    }

    #[test]
    fn looks_are_told_from_samples() {
        let late = Some("this process may not load BPF programs".to_owned());
        let mut recording = Recording { late, ..Recording::default() };
        recording.add(step(1 << 20, None));
        let caveat = "places are those seen up to 15 ms after the growth: this process may not \
                      load BPF programs";
        assert_eq!(recording.caveat().as_deref(), Some(caveat));
        let subtitle = recording.heading(7).subtitle;
        assert!(subtitle.starts_with("1.0 MiB grown, 1 look; 0 B (0 %)"), "{subtitle}");
        assert!(subtitle.ends_with(&format!("; {caveat}")), "{subtitle}");
    }

    #[test]
    fn only_all_is_a_hundred_per_cent() {
        let cases = [(0, 9), (1, 1000), (999, 1000), (9, 9), (298, 312)];
        assert_eq!(cases.map(|(part, whole)| percent(part, whole)), [0, 1, 99, 100, 96]);
    }
}
