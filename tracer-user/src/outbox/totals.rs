//! What became of the alerts, over all couriers that there were.

use std::collections::BTreeMap;

use super::protocol::Delivery;

/// Receivers that are kept apart at most; the names come from the settings, by way of the courier.
const MAX_RECEIVERS: usize = 256;

/// Longest name: that of a setting, at most 64 bytes, and what kind it is.
const MAX_NAME_BYTES: usize = 96;

/// Sums up what the couriers report.
#[derive(Debug, Default)]
pub struct Totals {
    /// Of couriers that have ended.
    before: BTreeMap<String, Delivery>,
    /// What the present one said last.
    now: BTreeMap<String, Delivery>,
    /// Orders to tell that it says it has taken.
    taken: u64,
    /// Losses that no event tells yet, by receiver.
    news: BTreeMap<String, u64>,
}

impl Totals {
    /// What the present courier reports.
    pub fn report(&mut self, alerts: u64, receivers: Vec<Delivery>) {
        self.taken = alerts;
        for delivery in receivers {
            let known = self.now.get(&delivery.receiver);
            let is_too_much =
                self.now.len() >= MAX_RECEIVERS || delivery.receiver.len() > MAX_NAME_BYTES;
            if known.is_none() && is_too_much {
                continue;
            }
            // Counts that went back are those of another one of that name: the settings had none meanwhile.
            let is_another = known.is_some_and(|known| {
                delivery.delivered < known.delivered
                    || delivery.retried < known.retried
                    || delivery.lost < known.lost
            });
            let before = known.filter(|_| !is_another).map_or(0, |known| known.lost);
            if is_another && let Some(gone) = self.now.remove(&delivery.receiver) {
                self.keep(gone);
            }
            if delivery.is_of_alerts() {
                self.lose(&delivery.receiver, delivery.lost.saturating_sub(before));
            }
            self.now.insert(delivery.receiver.clone(), delivery);
        }
    }

    /// The courier is gone, and with it what waited in it. `sent` were sent to it; how many of them it
    /// never reported to have taken is returned: what became of these nobody knows.
    pub fn courier_gone(&mut self, sent: u64) -> u64 {
        for (receiver, mut gone) in std::mem::take(&mut self.now) {
            if gone.is_of_alerts() {
                self.lose(&receiver, gone.queued);
                gone.lost = gone.lost.saturating_add(gone.queued);
            }
            self.keep(gone);
        }
        sent.saturating_sub(std::mem::take(&mut self.taken))
    }

    /// Adds the last counts of one that is gone to those of its name before it.
    fn keep(&mut self, gone: Delivery) {
        if self.before.len() < MAX_RECEIVERS || self.before.contains_key(&gone.receiver) {
            let sum = self.before.remove(&gone.receiver).unwrap_or_default();
            self.before.insert(gone.receiver.clone(), add(&sum, Delivery { queued: 0, ..gone }));
        }
    }

    /// Receiver and number of losses that were not told yet.
    pub fn take_news(&mut self) -> Option<(String, u64)> {
        self.news.pop_first()
    }

    /// Each receiver once.
    pub fn deliveries(&self) -> Vec<Delivery> {
        let mut all = self.before.clone();
        for (receiver, now) in &self.now {
            let sum = all.remove(receiver).unwrap_or_default();
            all.insert(receiver.clone(), add(&sum, now.clone()));
        }
        all.into_values().collect()
    }

    fn lose(&mut self, receiver: &str, alerts: u64) {
        if alerts > 0 {
            let lost = self.news.entry(receiver.to_owned()).or_default();
            *lost = lost.saturating_add(alerts);
        }
    }
}

fn add(sum: &Delivery, one: Delivery) -> Delivery {
    Delivery {
        delivered: sum.delivered.saturating_add(one.delivered),
        retried: sum.retried.saturating_add(one.retried),
        lost: sum.lost.saturating_add(one.lost),
        ..one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(receiver: &str, delivered: u64, lost: u64, queued: u64) -> Delivery {
        Delivery { receiver: receiver.to_owned(), delivered, retried: 0, lost, queued }
    }

    #[test]
    fn a_receiver_that_was_taken_out_and_put_back_counts_on() {
        let mut totals = Totals::default();
        totals.report(5, vec![delivery("webhook:a", 4, 5, 0)]);
        assert_eq!(totals.take_news(), Some(("webhook:a".to_owned(), 5)));
        totals.report(5, vec![delivery("webhook:a", 4, 6, 0), delivery("webhook:a", 0, 0, 0)]);
        assert_eq!(totals.take_news(), Some(("webhook:a".to_owned(), 1)));
        totals.report(8, vec![delivery("webhook:a", 1, 2, 0)]);
        assert_eq!(totals.take_news(), Some(("webhook:a".to_owned(), 2)));
        assert_eq!(totals.deliveries(), [delivery("webhook:a", 5, 8, 0)]);
    }

    #[test]
    fn losses_are_told_once_and_sums_outlive_a_courier() {
        let mut totals = Totals::default();
        totals.report(5, vec![delivery("webhook:a", 2, 1, 2), delivery("endpoint", 9, 7, 3)]);
        totals.report(6, vec![delivery("webhook:a", 2, 3, 1), delivery("metrics:b", 1, 9, 0)]);
        assert_eq!(totals.take_news(), Some(("webhook:a".to_owned(), 3)));
        assert_eq!(totals.take_news(), None);
        assert_eq!(totals.courier_gone(10), 4);
        assert_eq!(totals.take_news(), Some(("webhook:a".to_owned(), 1)));
        assert_eq!(totals.take_news(), None);
        totals.report(1, vec![delivery("webhook:a", 1, 0, 0)]);
        let sums = totals.deliveries();
        let (endpoint, metrics) = (delivery("endpoint", 9, 7, 0), delivery("metrics:b", 1, 9, 0));
        assert_eq!(sums, [endpoint, metrics, delivery("webhook:a", 3, 4, 0)]);
    }

    #[test]
    fn a_courier_that_invents_receivers_fills_nothing() {
        let mut totals = Totals::default();
        for n in 0..10 {
            let many = (0..100).map(|m| delivery(&format!("{n}.{m}"), 1, 0, 0)).collect();
            totals.report(0, many);
            totals.courier_gone(0);
        }
        assert_eq!(totals.deliveries().len(), MAX_RECEIVERS);
        let mut totals = Totals::default();
        totals.report(0, vec![delivery(&"x".repeat(60_000), 1, 1, 0)]);
        assert_eq!((totals.deliveries().len(), totals.take_news()), (0, None));
    }
}
