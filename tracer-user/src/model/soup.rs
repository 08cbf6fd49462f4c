//! Events that make no sense, at times that make none: whatever comes, nothing panics, and what is said
//! is harmless, finite, and told in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::script::{MIB, Script};
use super::*;
use crate::detect;
use crate::event::look::{Activity, Frame, Look, Memory, Request};
use crate::event::{
    self, Cgroup as CgroupEvent, CgroupEvents, CgroupGone, CgroupMove, Event, Evidence, Exit,
    Finding, FindingState, Growth, Lost, Oom, OomScope, Party, PhpGrowth, Pressure, ProcessCause,
    RequestEdge, RequestPhase, Signal, Stall, StallKind, Tick, Victim,
};
use crate::text::printable;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Mostly sane, sometimes absurd.
    fn bytes(&mut self) -> u64 {
        match self.below(20) {
            0 => u64::MAX - self.below(3) * 4095,
            1 => self.below(3),
            2 => self.next(),
            _ => self.below(512) * MIB,
        }
    }

    fn key(&mut self) -> (u32, u64) {
        (self.below(20) as u32, self.below(3) * 10_000_000)
    }

    fn percent(&mut self) -> Option<f64> {
        let odd = [f64::NAN, f64::INFINITY, -1.0, 1e300, 0.0, 12.0, 60.0, 99.0];
        let value = odd[self.below(8) as usize];
        self.maybe(value)
    }

    fn limit(&mut self) -> Option<u64> {
        let bytes = self.bytes();
        self.maybe(bytes)
    }

    fn path(&mut self) -> Arc<str> {
        if self.below(200) == 0 {
            return Arc::from(["/x", "/\u{202e}", "y"][self.below(3) as usize].repeat(34_000));
        }
        let paths = ["/", "", "/web", "/web/php", "/web//", "web", "host", "/db/\u{202e}\x1b[2J"];
        Arc::from(paths[self.below(paths.len() as u64) as usize])
    }

    fn maybe<T>(&mut self, value: T) -> Option<T> {
        (self.below(3) > 0).then_some(value)
    }

    fn look(&mut self, tgid: u32, start_ns: u64, text: &Arc<str>) -> Look {
        let mut look = Look::new(tgid, start_ns);
        look.activity =
            [Activity::Request, Activity::Idle, Activity::Unknown][self.below(3) as usize];
        let requests = self.next() >> self.below(64);
        look.requests = self.maybe(requests);
        look.pool = self.maybe(Arc::clone(text));
        let elapsed_ns = self.next() >> self.below(64);
        let request = Request {
            uri: self.maybe(Arc::clone(text)),
            elapsed_ns: self.maybe(elapsed_ns),
            ..Request::default()
        };
        look.request = self.maybe(request);
        let memory = Memory {
            used_bytes: self.bytes(),
            real_bytes: self.bytes(),
            real_peak_bytes: 0,
            limit_bytes: Some(self.bytes()),
        };
        look.memory = self.maybe(memory);
        let frame = Frame { file: self.maybe(Arc::clone(text)), ..Frame::default() };
        look.stack = vec![frame; self.below(200) as usize];
        look
    }

    fn event(&mut self) -> Event {
        let (tgid, start_ns) = self.key();
        let path = self.path();
        let comm: Arc<str> = Arc::from(["php-fpm8.2", "", "\x1b]0;x\x07"][self.below(3) as usize]);
        let party = Party { tgid, start_ns, comm: Arc::clone(&comm), cgroup: Some(path.clone()) };
        match self.below(52) {
            0 => {
                let signal = [None, Some(9), Some(15), Some(11)][self.below(4) as usize];
                Event::Exit(Exit { tgid, start_ns, code: None, signal, peak_bytes: None })
            }
            48 => Event::Lost(Lost {
                source: Arc::from(
                    ["ring:growth", "", "disk", "missed:memcg_end"][tgid as usize % 4],
                ),
                records: self.next() >> self.below(64),
            }),
            49 => Event::PhpGrowth(Box::new(PhpGrowth {
                tgid,
                start_ns,
                private_bytes: self.bytes(),
                stack: vec![Frame { function: Some(path), ..Frame::default() }],
            })),
            50.. => Event::Request(RequestEdge {
                tgid,
                start_ns,
                phase: [RequestPhase::Begin, RequestPhase::End][self.below(2) as usize],
                anon_bytes: self.bytes(),
                file_bytes: self.bytes(),
                shmem_bytes: self.bytes(),
                swap_bytes: self.bytes(),
            }),
            44..48 => {
                let (tgid, start_ns) = self.key();
                let sender = Party { tgid, start_ns, ..party.clone() };
                let signal = [9, 15, 0][self.below(3) as usize];
                let from_kernel = self.below(4) == 0;
                Event::Signal(Box::new(Signal { signal, sender, target: party, from_kernel }))
            }
            1..4 => {
                let causes = [
                    ProcessCause::Found,
                    ProcessCause::Fork,
                    ProcessCause::Exec,
                    ProcessCause::Update,
                ];
                Event::Process(event::Process {
                    tgid,
                    start_ns,
                    ppid: self.below(20) as u32,
                    comm,
                    cmdline: self.maybe(Arc::from("x\n")),
                    exe: None,
                    uid: 0,
                    cgroup: self.maybe(path),
                    php: self.maybe(event::Php {
                        sapi: Arc::from("fpm"),
                        pool: Some(Arc::from("www")),
                        master_tgid: None,
                        version: None,
                    }),
                    cause: causes[self.below(4) as usize],
                })
            }
            4..8 => {
                let events = CgroupEvents {
                    high: self.next(),
                    oom_kill: self.below(3),
                    under_oom: self.below(9) == 0,
                    ..CgroupEvents::default()
                };
                Event::Cgroup(Box::new(CgroupEvent {
                    id: self.below(3),
                    path,
                    usage_bytes: self.bytes(),
                    max_bytes: self.limit(),
                    high_bytes: self.limit().filter(|_| tgid % 3 == 0),
                    swap_usage_bytes: self.below(2) * (self.bytes() >> 1),
                    swap_max_bytes: self.limit(),
                    memsw_max_bytes: self.limit().filter(|_| tgid % 3 == 1),
                    reclaimable_bytes: self.limit(),
                    shmem_bytes: self.limit(),
                    events: self.maybe(events),
                    oom_group: self.below(2) == 0,
                    oom_disabled: self.below(2) == 0,
                }))
            }
            8 => Event::CgroupGone(CgroupGone { id: 0, path }),
            9 => Event::CgroupMove(CgroupMove { tgid, start_ns, from: None, to: path }),
            10 => Event::Tick(Tick {}),
            11..13 => Event::Pressure(Pressure {
                scope: if self.below(2) == 0 { path } else { Arc::from("host") },
                used_bytes: self.bytes(),
                limit_bytes: self.limit(),
                available_bytes: self.limit(),
                swap_free_bytes: self.limit(),
                some_avg10: self.percent(),
                full_avg10: self.percent(),
                shmem_bytes: self.limit(),
            }),
            13 => {
                let kinds =
                    [ScopeKind::Memcg, ScopeKind::Host, ScopeKind::Cpuset, ScopeKind::Unknown];
                let victims = (0..self.below(4)).map(|_| {
                    let (tgid, start_ns) = self.key();
                    Victim {
                        tgid,
                        start_ns,
                        comm: Arc::clone(&comm),
                        cgroup: None,
                        anon_bytes: self.bytes(),
                        file_bytes: 0,
                        shmem_bytes: 0,
                        swap_bytes: self.bytes(),
                        oom_score_adj: [0, -1000, i32::MIN][self.below(3) as usize],
                    }
                });
                let victims = victims.collect();
                Event::Oom(Box::new(Oom {
                    scope: OomScope {
                        kind: kinds[self.below(4) as usize],
                        cgroup: self.maybe(path),
                        limit_bytes: Some(self.bytes()),
                    },
                    trigger: party,
                    victims,
                }))
            }
            14 => Event::Stall(Stall {
                tgid,
                start_ns,
                cgroup: self.maybe(path),
                kind: [StallKind::Direct, StallKind::Memcg][self.below(2) as usize],
                duration_ns: self.next() >> self.below(64),
            }),
            15..19 => Event::Php(Box::new(self.look(tgid, start_ns, &path))),
            _ => Event::Growth(Growth {
                tgid,
                start_ns,
                anon_bytes: self.bytes(),
                shmem_bytes: self.below(2) * (self.bytes() >> 1),
                swap_bytes: self.below(2) * (self.bytes() >> 1),
                ..Growth::default()
            }),
        }
    }
}

/// How the clock goes on after an event.
fn step(random: &mut Random, t_ns: u64) -> u64 {
    match random.below(2000) {
        // Far away, and never back.
        0 => t_ns.saturating_add(random.next() >> random.below(64)),
        1..5 => t_ns.saturating_add(100_000_000_000),
        5..10 => t_ns.saturating_sub(random.next() >> random.below(64)),
        10..400 => t_ns.saturating_sub(random.below(50_000_000)),
        _ => t_ns.saturating_add(random.below(300_000_000)),
    }
}

/// The numbers of a finding as JSON has them; none may be negative but a victim's oom_score_adj.
fn check_numbers(name: &str, value: &serde_json::Value, finding: &Finding) {
    match value {
        serde_json::Value::Number(number) => {
            let is_sane = number.as_f64().is_some_and(|n| n.is_finite() && n >= 0.0);
            assert!(is_sane || name == "oom_score_adj", "{name} is {number}: {finding:?}");
        }
        serde_json::Value::Array(list) => {
            list.iter().for_each(|value| check_numbers(name, value, finding));
        }
        serde_json::Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| check_numbers(name, value, finding));
        }
        _ => {}
    }
}

fn check(finding: &Finding, known: &mut BTreeMap<u64, FindingState>) {
    check_numbers("", &serde_json::to_value(&finding.evidence).unwrap(), finding);
    // What is no number would become null, and could not be read again.
    let line = serde_json::to_string(finding).unwrap();
    let again: Finding = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
    assert_eq!((again.id, &again.summary), (finding.id, &finding.summary));
    assert_eq!(printable(&finding.summary), finding.summary);
    assert!(finding.summary.len() < 8192, "{}", finding.summary.len());
    let before = known.insert(finding.id, finding.state);
    match finding.state {
        FindingState::Raised => assert_eq!(before, None, "raised twice: {finding:?}"),
        FindingState::Updated | FindingState::Closed => {
            let is_open = matches!(before, Some(FindingState::Raised | FindingState::Updated));
            assert!(is_open, "{before:?} before {finding:?}");
        }
    }
}

fn kind(evidence: &Evidence) -> usize {
    match evidence {
        Evidence::Runaway(_) => 0,
        Evidence::OomVerdict(_) => 1,
        Evidence::Pool(_) => 2,
        Evidence::Killed(_) => 3,
        Evidence::Cascade(_) => 4,
        Evidence::Pressure(_) => 5,
        Evidence::Leak(_) => 6,
    }
}

#[test]
fn events_that_make_no_sense_do_no_harm() {
    let mut kinds = [0; 7];
    for seed in 1..=80 {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut script = Script::new();
        let mut known = BTreeMap::new();
        for _ in 0..2000 {
            let event = random.event();
            let twice = random.below(20) == 0;
            let told = script.findings.len();
            if twice {
                script.feed(event.clone());
            }
            script.feed(event);
            for (_, finding) in &script.findings[told..] {
                check(finding, &mut known);
                kinds[kind(&finding.evidence)] += 1;
                for rule in detect::account(&script.model, script.t_ns, finding).rules {
                    assert!(!rule.unit.show(rule.value).is_empty());
                }
            }
            script.t_ns = step(&mut random, script.t_ns);
        }
        for process in script.model.processes() {
            assert!(process.rate_bytes_per_s.is_finite());
            if let Some(forecast) = script.model.forecast(process) {
                assert!(forecast.rate_bytes_per_s.is_finite());
                assert!(forecast.eta_s.is_none_or(|eta| eta.is_finite() && eta >= 0.0));
            }
        }
        let host = script.model.host();
        let psi = host.some_avg10.into_iter().chain(host.full_avg10);
        assert!(psi.into_iter().all(|percent| (0.0..=100.0).contains(&percent)));
    }
    // A leak takes an even rise.
    let (_leaks, others) = kinds.split_last().unwrap();
    assert!(others.iter().all(|n| *n > 10), "the garbage must reach every detector: {kinds:?}");
}
