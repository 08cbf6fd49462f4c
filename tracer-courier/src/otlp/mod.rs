//! OpenTelemetry collectors: findings as log records, metrics as sums and gauges, over gRPC or HTTP.
//!
//! The messages are those of opentelemetry-proto. The SDK's own exporters are not used: its batches
//! drop records when its queue is full without saying which, and tell nobody whether an export failed for
//! good, so that no finding could be counted as delivered or lost.

mod records;
mod send;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use rampage::settings::Otlp;
use tokio::time::{MissedTickBehavior, interval};

pub use send::{Collector, problem};

use crate::question::Questions;
use crate::receiver::{About, Deliver, Outcome, Queue, Told};
use crate::say;

/// A collector as the receiver of findings.
#[derive(Debug)]
pub struct Logs {
    collector: Collector,
}

impl Logs {
    /// Findings for `collector`.
    pub fn new(collector: Collector) -> Self {
        Self { collector }
    }
}

impl Deliver for Logs {
    async fn deliver(&mut self, told: &Told) -> Outcome {
        self.collector.logs(records::log(told)).await
    }
}

/// Exports the metrics each interval, for ever. An export that fails is not repeated: the next one says
/// the same sums. What became of exports is counted in `exports`, apart from the alerts.
pub async fn export(
    settings: Otlp,
    mut collector: Collector,
    about: Arc<About>,
    start_wall_ns: i64,
    questions: Arc<Questions>,
    exports: Arc<Queue>,
) {
    let every = settings.metrics_interval.get();
    if every.is_zero() {
        return pending().await;
    }
    let mut ticks = interval(every.max(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        ticks.tick().await;
        let outcome = match questions.ask().await.1 {
            Ok(snapshot) => {
                let metrics = records::metrics(&about, start_wall_ns, &snapshot);
                drop(snapshot);
                collector.metrics(metrics).await
            }
            Err(error) => Outcome::again(error),
        };
        let why = match outcome {
            Outcome::Delivered => {
                exports.count(|counts| counts.delivered += 1);
                if std::mem::take(&mut failing) {
                    say(format_args!("otlp:{} takes metrics again", settings.name));
                }
                continue;
            }
            Outcome::Again { why, .. } => {
                exports.count(|counts| counts.retried += 1);
                why
            }
            Outcome::Refused { why } => {
                exports.count(|counts| counts.lost += 1);
                why
            }
        };
        if !std::mem::replace(&mut failing, true) {
            say(format_args!("otlp:{} takes no metrics: {why}", settings.name));
        }
    }
}
