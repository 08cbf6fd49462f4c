//! What a changed file means for a service that runs.

use serde_json::Value;

use super::Settings;
use super::shape::{self, Key};

/// Keys that differ, and take effect only at the next start.
pub fn needs_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let (Ok(old), Ok(new)) = (serde_json::to_value(old), serde_json::to_value(new)) else {
        return Vec::new();
    };
    let differs = |key: &&Key| get(&old, key.path) != get(&new, key.path);
    shape::all(shape::root())
        .filter(|key| key.restart)
        .filter(differs)
        .map(|key| key.path)
        .collect()
}

/// The settings of a changed file as far as a service that runs with `running` can follow: keys that
/// take effect at the next start stay as they are.
pub fn keep_until_restart(running: &Settings, changed: &Settings) -> Settings {
    let mut kept = changed.clone();
    let (old, watch) = (&running.watch, &mut kept.watch);
    watch.source = old.source;
    watch.step = old.step;
    watch.interval = old.interval;
    watch.usdt = old.usdt;
    watch.show_query = old.show_query;
    watch.show_client = old.show_client;
    kept.recorder.enabled = running.recorder.enabled;
    kept.recorder.directory.clone_from(&running.recorder.directory);
    kept.metrics.program_cost = running.metrics.program_cost;
    kept
}

fn get<'a>(settings: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(settings, |at, name| at.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Size, Span, WatchSource};

    #[test]
    fn what_takes_a_start_is_named_and_kept() {
        let old = Settings::default();
        let mut new = old.clone();
        new.watch.comm = "php".to_owned();
        new.recorder.max_size = Size::bytes(1 << 30);
        assert_eq!(needs_restart(&old, &new), [""; 0]);
        assert_eq!(keep_until_restart(&old, &new), new);
        let follows = new.clone();
        new.watch.source = WatchSource::Procfs;
        new.watch.step = Size::bytes(1 << 20);
        new.watch.interval = Span::from_secs(2);
        new.watch.usdt = true;
        new.watch.show_query = true;
        new.watch.show_client = true;
        new.recorder.enabled = !old.recorder.enabled;
        new.recorder.directory = "/srv".into();
        new.metrics.program_cost = !old.metrics.program_cost;
        let all: Vec<_> =
            shape::all(shape::root()).filter(|key| key.restart).map(|key| key.path).collect();
        assert_eq!(all.len(), 9);
        assert_eq!(needs_restart(&old, &new), all);
        assert_eq!(keep_until_restart(&old, &new), follows);
        assert_eq!(needs_restart(&old, &keep_until_restart(&old, &new)), [""; 0]);
    }
}
