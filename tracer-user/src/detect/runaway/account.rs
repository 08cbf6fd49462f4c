//! What a runaway finding rests on, by the detector's own rules.

use super::{Danger, Share, rules, stopped_by_php};
use crate::detect::account::{Account, Number};
use crate::event::{Finding, Runaway, ScopeKind};
use crate::model::{Model, Process, Rates, Rise};

pub(in crate::detect) fn account(model: &Model, finding: &Finding, evidence: &Runaway) -> Account {
    let mut account = Account::default();
    let process = finding.subject.as_ref().and_then(|subject| model.process(&subject.key()));
    let Some(process) = process else { return account };
    let Some(rise) = process.rises().find(|rise| rise.memory == evidence.memory) else {
        return account;
    };
    account.rules.extend(rules::growth(model, &rise));
    match evidence.limit.kind {
        ScopeKind::Php => own_limit(model, process, &rise, &mut account),
        _ => shared_limit(model, process, rise, evidence, &mut account),
    }
    account
}

fn own_limit(model: &Model, process: &Process, rise: &Rise<'_>, account: &mut Account) {
    let Some(danger) = stopped_by_php(model, process, f64::INFINITY) else { return };
    account.numbers = vec![
        Number::rate("rate of its own memory", danger.limit.rate_bytes_per_s),
        Number::bytes("left of its memory_limit", danger.limit.headroom_bytes),
        Number::seconds("time left", danger.eta_s),
    ];
    let horizon_s = model.config().horizon_s_of(process.pool());
    account.rules.extend(rules::time(danger.eta_s, horizon_s, rise));
    account.rules.push(rules::memory_limit(&danger.limit));
}

fn shared_limit<'a>(
    model: &'a Model,
    process: &'a Process,
    rise: Rise<'a>,
    evidence: &Runaway,
    account: &mut Account,
) {
    let scope = model.limit(evidence.limit.path.as_deref());
    let Some(danger) = scope.and_then(|scope| Danger::new(model, rise, scope)) else { return };
    let share = Share::of(model, process, &danger);
    let (soonest_s, latest_s) = danger.eta_range_s();
    let Rates { whole, halves: [first, second] } = danger.rates();
    account.numbers = vec![
        Number::bytes("used of the limit", danger.scope.consumed_bytes()),
        Number::bytes("left of it", danger.scope.headroom_bytes),
        Number::rate("rate of the limit, whole window", whole),
        Number::rate("  first half of it", first),
        Number::rate("  second half of it", second),
        Number::seconds("time left", danger.eta_s),
        Number::seconds("  at the soonest", soonest_s),
        Number::seconds("  at the latest", latest_s.unwrap_or(f64::INFINITY)),
        Number::bytes("the subject grew", share.own_bytes),
        Number::bytes("the other growers", share.others_bytes),
        Number::bytes("the limit rose, net", share.rise_bytes),
        Number::bytes("counted as all growth", share.all_bytes()),
    ];
    let horizon_s = model.config().horizon_s_of(process.pool());
    account.rules.extend(rules::time(danger.eta_s, horizon_s, &rise));
    account.rules.push(rules::share(share.part()));
    account.choices.push(rules::critical(danger.eta_s));
}
