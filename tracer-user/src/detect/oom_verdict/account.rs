//! What a verdict rests on: both windows, and what one culprit takes.

use super::{Place, blame};
use crate::detect::account::{Account, Number};
use crate::detect::attribution::Attribution;
use crate::event::{Oom, Verdict};
use crate::model::Model;

pub(in crate::detect) fn account(model: &Model, t_ns: u64, verdict: &Verdict) -> Account {
    let oom = Oom {
        scope: verdict.limit.clone(),
        trigger: verdict.trigger.clone(),
        victims: verdict.victims.clone(),
    };
    let place = Place::of(model, &oom);
    let attribution = Attribution::new(model, &oom, place.root.as_deref(), t_ns);
    let rise = verdict.limit_rise_bytes.map_or(f64::NAN, |bytes| bytes as f64);
    let rise = Number { value: rise, ..Number::bytes("the limit rose in the last minute, net", 0) };
    Account {
        numbers: vec![rise],
        rankings: vec![
            ("grown in the last minute", attribution.window.shown()),
            ("grown since first seen", attribution.since_seen.shown()),
        ],
        rules: attribution.rules(),
        choices: Vec::new(),
        therefore: Some(blame(model, &oom, &attribution.cause(), t_ns)),
    }
}
