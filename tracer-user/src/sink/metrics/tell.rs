//! All families, in the order of the table.

use super::counts::{Counts, EVENT_TYPES, KILLERS, SCOPES};
use super::extra::Extra;
use super::series::{Families, label};
use super::{cgroups, pools, processes};
use crate::enrich::usage::Usage;
use crate::kernel::cost::ProgramCost;
use crate::metrics::{Family, table};
use crate::model::Model;
use crate::outbox::protocol::{Delivery, ENDPOINT, EXPORTS};
use crate::settings;
use crate::sink::recorder::Totals;

/// Who is no receiver of alerts, but told of with them.

pub(super) fn families(
    counts: &mut Counts,
    model: &Model,
    settings: &settings::Metrics,
    extra: &Extra,
    now_ns: u64,
) -> Vec<Family> {
    let mut families = Families::with_capacity(table::ALL.len());
    let kernel = label(&counts.kernel);
    let build = [env!("CARGO_PKG_VERSION"), &kernel, &counts.source];
    families.each(&table::BUILD_INFO, [(build, 1.0)]);
    families.one(&table::READY, flag(extra.ready));
    host(counts, model, &mut families);
    let (fullest, known) = cgroups::fullest(model, settings.max_cgroups as usize);
    cgroups::tell(&fullest, known, counts, &mut families);
    pools::tell(&mut counts.requests, model, settings.max_pools as usize, &mut families);
    processes::tell(model, settings.top_processes as usize, &mut families);
    counts.findings.tell(&mut families);
    families.each(&table::OOM_KILLS, by_name(&SCOPES, &counts.oom_kills));
    families.each(&table::OOM_VICTIMS, by_name(&SCOPES, &counts.oom_victims));
    families.each(&table::KILLS, by_name(&KILLERS, &counts.kills));
    processes::tell_next(model, &fullest, &mut families);
    pipeline(counts, now_ns, &mut families);
    own(&extra.usage, &mut families);
    programs(extra.bpf_map_bytes, &extra.programs, &mut families);
    if let Some(totals) = &extra.recorder {
        recorder(totals, counts.wall_offset_ns.saturating_add_unsigned(now_ns), &mut families);
    }
    families.one_if(&table::COURIER_ENDS, extra.courier_ends.map(|ends| ends as f64));
    deliveries(&extra.deliveries, &mut families);
    families.one_if(&table::SETTINGS_OK, extra.settings_ok.map(flag));
    families.into_inner()
}

fn host(counts: &Counts, model: &Model, families: &mut Families) {
    let host = model.host();
    // Until the first look at it nothing but its size is known.
    let limit = model.limit(None).map(|limit| limit.forecast());
    let if_seen = |bytes: u64| limit.as_ref().map(|_| bytes as f64);
    let if_known = |bytes: u64| (bytes > 0).then_some(bytes as f64);
    let used_bytes = host.mem_total_bytes.saturating_sub(host.available_bytes);
    families.one_if(&table::HOST_MEMORY, if_known(host.mem_total_bytes));
    families.one_if(&table::HOST_AVAILABLE, if_seen(host.available_bytes));
    families.one_if(&table::HOST_USED, if_seen(used_bytes));
    families.one(&table::HOST_SWAP, host.swap_total_bytes as f64);
    families.one_if(&table::HOST_SWAP_FREE, if_seen(host.swap_free_bytes));
    let pressure = [("some", host.some_avg10), ("full", host.full_avg10)];
    let pressure = pressure.into_iter().filter_map(|(name, avg)| Some(([name], avg? / 100.0)));
    families.each(&table::HOST_PRESSURE, pressure);
    let stalled = counts.stalled_ns.map(|ns| ns as f64 / 1e9);
    families.each(&table::HOST_STALLED, [(["direct"], stalled[0]), (["memcg"], stalled[1])]);
    let rate = limit.as_ref().map(|limit| limit.rate_bytes_per_s);
    families.one_if(&table::HOST_GROWTH, rate);
    families.one_if(&table::HOST_TIME_LEFT, limit.and_then(|limit| limit.eta_s));
}

fn pipeline(counts: &mut Counts, now_ns: u64, families: &mut Families) {
    families.each(&table::EVENTS, by_name(&EVENT_TYPES, &counts.events));
    let lost: Vec<_> =
        counts.lost.iter().map(|(source, records)| (label(source), *records as f64)).collect();
    families.each(&table::LOST, lost.iter().map(|(source, records)| ([&**source], *records)));
    let latency = counts.latency.statistics(now_ns);
    let latency = latency.into_iter().flat_map(|of| {
        let statistics = [("p50", of.p50_ns), ("p99", of.p99_ns), ("max", of.max_ns)];
        statistics.map(|(name, ns)| ([name], ns as f64 / 1e9))
    });
    families.each(&table::LATENCY, latency);
}

fn own(usage: &[(&'static str, Usage)], families: &mut Families) {
    let cpu = usage.iter().flat_map(|(process, usage)| {
        [(["user"], usage.user_s), (["system"], usage.system_s)]
            .map(|([mode], seconds)| ([*process, mode], seconds))
    });
    families.each(&table::CPU, cpu);
    let each = |value: fn(&Usage) -> f64| {
        usage.iter().map(move |(process, usage)| ([*process], value(usage)))
    };
    families.each(&table::RESIDENT, each(|usage| usage.resident_bytes as f64));
    families.each(&table::RESIDENT_PEAK, each(|usage| usage.peak_bytes as f64));
    families.each(&table::LOCKED, each(|usage| usage.locked_bytes as f64));
    families.each(&table::OPEN_FDS, each(|usage| usage.open_fds as f64));
    families.each(&table::THREADS, each(|usage| usage.threads as f64));
    families.each(&table::START_TIME, each(|usage| usage.started_s));
}

fn programs(map_bytes: Option<u64>, programs: &[ProgramCost], families: &mut Families) {
    families.one_if(&table::BPF_MAPS, map_bytes.map(|bytes| bytes as f64));
    let each = |value: fn(&ProgramCost) -> Option<f64>| {
        programs.iter().filter_map(move |program| Some(([&*program.name], value(program)?)))
    };
    families.each(&table::PROGRAM_CPU, each(|program| Some(program.cpu_ratio())));
    families.each(&table::PROGRAM_RUN, each(ProgramCost::run_s));
    families.each(&table::PROGRAM_RUNS, each(|program| Some(program.runs_per_s())));
}

fn recorder(totals: &Totals, wall_ns: i64, families: &mut Families) {
    families.one(&table::RECORDER_EVENTS, totals.events as f64);
    families.one(&table::RECORDER_BYTES, totals.bytes as f64);
    families.one(&table::RECORDER_LOST, totals.lost as f64);
    families.one(&table::RECORDER_SEGMENTS, totals.segments as f64);
    families.one(&table::RECORDER_SEGMENT_BYTES, totals.segment_bytes as f64);
    families.one(&table::RECORDER_INCIDENTS, totals.incidents as f64);
    let since_ns = totals.synced_wall_ns.map(|synced_ns| wall_ns.saturating_sub(synced_ns).max(0));
    families.one_if(&table::RECORDER_UNSYNCED, since_ns.map(|ns| ns as f64 / 1e9));
    families.one(&table::RECORDER_FAILING, flag(totals.failing.is_some()));
}

fn deliveries(all: &[Delivery], families: &mut Families) {
    let receivers: Vec<_> = all
        .iter()
        .filter(|delivery| delivery.is_of_alerts())
        .map(|delivery| (label(&delivery.receiver), delivery))
        .collect();
    let each = |value: fn(&Delivery) -> u64| {
        receivers.iter().map(move |(name, delivery)| ([&**name], value(delivery) as f64))
    };
    families.each(&table::ALERTS_DELIVERED, each(|delivery| delivery.delivered));
    families.each(&table::ALERTS_RETRIED, each(|delivery| delivery.retried));
    families.each(&table::ALERTS_LOST, each(|delivery| delivery.lost));
    families.each(&table::ALERTS_QUEUED, each(|delivery| delivery.queued));
    let exports: Vec<_> =
        all.iter().filter_map(|of| Some((label(of.receiver.strip_prefix(EXPORTS)?), of))).collect();
    let exports = exports.iter().flat_map(|(name, of)| {
        let counts = [("taken", of.delivered), ("failed", of.retried), ("refused", of.lost)];
        counts.map(|(outcome, count)| ([&**name, outcome], count as f64))
    });
    families.each(&table::METRICS_EXPORTS, exports);
    let requests = all
        .iter()
        .filter(|of| of.receiver == ENDPOINT)
        .flat_map(|of| [(["answered"], of.delivered as f64), (["refused"], of.lost as f64)]);
    families.each(&table::ENDPOINT_REQUESTS, requests);
}

fn by_name<'a, const N: usize>(
    names: &'a [&'a str; N],
    counts: &'a [u64; N],
) -> impl Iterator<Item = ([&'a str; 1], f64)> {
    names.iter().zip(counts).map(|(name, count)| ([*name], *count as f64))
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}
