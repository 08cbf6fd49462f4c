//! What tracer and courier say to each other over a pair of sockets: frames of a length (u32, little
//! endian) and a JSON object.

use serde::{Deserialize, Serialize};

use crate::event::Finding;
use crate::metrics::Snapshot;
use crate::settings::{Alerts, Metrics};

/// Longest frame, bytes; a longer one is not sent, and ends the connection where it is received.
pub const MAX_FRAME_BYTES: usize = 4 << 20;

/// From the tracer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Order {
    /// First of all, and again after each change of the settings.
    Configure(Box<Courier>),
    /// Tell whom it concerns. Filters and the least severity of each receiver are the courier's work.
    Tell(Box<Alert>),
    /// The answer to [`Report::WantMetrics`].
    Metrics {
        /// Of the question.
        id: u64,
        /// The answer.
        snapshot: Box<Snapshot>,
    },
    /// About once a second: the tracer is alive.
    Alive {
        /// Everything is attached and the first look at all processes is done.
        ready: bool,
        /// Why it is not ready or what is degraded, one line; empty = nothing.
        reason: String,
    },
}

/// What the courier needs to know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Courier {
    /// Name of the host, told in each alert.
    pub host: String,
    /// Version of the tracer.
    pub version: String,
    /// boot_id of the host.
    pub boot_id: String,
    /// When the tracer began to count, ns since 1970-01-01 UTC.
    pub start_wall_ns: i64,
    /// Receivers.
    pub alerts: Alerts,
    /// The endpoint.
    pub metrics: Metrics,
}

/// A finding on its way out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// CLOCK_BOOTTIME, ns.
    pub t_ns: u64,
    /// Wall clock, ns since 1970-01-01 UTC.
    pub wall_ns: i64,
    /// What was found.
    pub finding: Finding,
}

/// An [`Order::Tell`] of a finding that is only borrowed, for the side that sends it.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "type", rename = "tell")]
pub struct Tell<'a> {
    /// CLOCK_BOOTTIME, ns.
    pub t_ns: u64,
    /// Wall clock, ns since 1970-01-01 UTC.
    pub wall_ns: i64,
    /// What was found.
    pub finding: &'a Finding,
}

/// From the courier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Report {
    /// The settings are in force; what could not be had, such as a taken port, is in `problems`.
    Configured {
        /// One line each.
        problems: Vec<String>,
    },
    /// Somebody asks for the metrics.
    WantMetrics {
        /// Comes back with the answer.
        id: u64,
    },
    /// About once a second, when something changed.
    Deliveries {
        /// [`Order::Tell`]s taken in since the courier's start, whoever was told.
        alerts: u64,
        /// Each receiver once.
        receivers: Vec<Delivery>,
    },
}

/// Of the endpoint: a [`Delivery`] counts requests, and clients that were turned away as `lost`.
pub const ENDPOINT: &str = "endpoint";

/// Before the name of a collector: a [`Delivery`] counts exports of the metrics, those that failed as
/// `retried`, and those that were refused as `lost`.
pub const EXPORTS: &str = "metrics:";

/// What became of the alerts for one receiver, since the courier's start; or of something else that
/// leaves through the courier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// `journal`, `webhook:ops`, `command:pager`, `otlp:fleet`; [`ENDPOINT`]; or [`EXPORTS`] and a name.
    pub receiver: String,
    /// Taken by the receiver.
    pub delivered: u64,
    /// Attempts that failed and were, or will be, repeated.
    pub retried: u64,
    /// Given up, or left out because the queue was full.
    pub lost: u64,
    /// Waiting now.
    pub queued: u64,
}

impl Delivery {
    /// Whether it counts alerts.
    pub fn is_of_alerts(&self) -> bool {
        self.receiver != ENDPOINT && !self.receiver.starts_with(EXPORTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::test::finding;

    #[test]
    fn a_borrowed_alert_is_read_as_an_order() {
        let finding = finding(3);
        let sent = serde_json::to_vec(&Tell { t_ns: 1, wall_ns: -2, finding: &finding }).unwrap();
        let read: Order = serde_json::from_slice(&sent).unwrap();
        assert_eq!(read, Order::Tell(Box::new(Alert { t_ns: 1, wall_ns: -2, finding })));
    }
}
