//! Every type of event goes through a line and comes back as it was, whatever its strings hold.

use super::*;
use crate::event::look::*;
use crate::event::*;
use std::sync::Arc;

/// Names as only an attacker gives them.
fn hostile() -> Vec<String> {
    vec![
        String::new(),
        "\x1b]0;owned\x07\x1b[2J".to_owned(),
        "\"},{\"type\":\"end\"}\\".to_owned(),
        "line\nfeed\rreturn\0nul\x7f".to_owned(),
        "\u{202e}\u{200b}\u{feff}\u{2028}\u{fffd}".to_owned(),
        String::from_utf8_lossy(&[0xff, 0xc3, 0x28, 0xf0, 0x9f]).into_owned(),
        "\x01".repeat(4096),
        "\"\\".repeat(2048),
        "🐘".repeat(1024),
    ]
}

fn party(name: &str) -> Party {
    Party { tgid: 7, start_ns: 70_000_000, comm: name.into(), cgroup: Some(name.into()) }
}

fn victim(name: &str) -> Victim {
    Victim {
        tgid: 8,
        start_ns: u64::MAX,
        comm: name.into(),
        cgroup: None,
        anon_bytes: u64::MAX,
        file_bytes: 1,
        shmem_bytes: 2,
        swap_bytes: 3,
        oom_score_adj: -1000,
    }
}

fn culprit(name: &str) -> Culprit {
    Culprit {
        tgid: 9,
        start_ns: 90_000_000,
        comm: name.into(),
        pool: Some(name.into()),
        grown_bytes: 1 << 30,
        share: 0.1 + 0.2,
        window_s: 60.0,
        onset_ns: Some(5),
        request: look(name).request,
        php_growth: None,
    }
}

fn next_victim(name: &str) -> NextVictim {
    NextVictim {
        tgid: 9,
        start_ns: 90_000_000,
        comm: name.into(),
        pool: Some(name.into()),
        used_bytes: u64::MAX,
        oom_score_adj: -999,
        is_certain: true,
        group: Some(name.into()),
    }
}

fn scope(name: &str) -> OomScope {
    OomScope { kind: ScopeKind::Memcg, cgroup: Some(name.into()), limit_bytes: Some(1 << 28) }
}

fn look(name: &str) -> Look {
    let text = || Some(Arc::from(name));
    let mut look = Look::new(1, 2);
    (look.sapi, look.version, look.pool) = (text(), text(), text());
    (look.activity, look.requests, look.stack_cut) = (Activity::Request, Some(7), true);
    look.request = Some(Request {
        method: text(),
        uri: text(),
        uri_rewritten: true,
        cut: true,
        host: text(),
        script: text(),
        client: text(),
        elapsed_ns: Some(3),
    });
    look.memory =
        Some(Memory { used_bytes: 1, real_bytes: 2, real_peak_bytes: 3, limit_bytes: None });
    look.stack = vec![
        Frame { class: text(), function: text(), file: text(), line: Some(4) },
        Frame::default(),
    ];
    for reason in [
        Reason::SwappedOut,
        Reason::Implausible { version: Arc::from(name) },
        Reason::Machine { machine: 183 },
    ] {
        look.miss(Part::Stack, reason);
    }
    look
}

fn finding(name: &str, kind: FindingKind, evidence: Evidence) -> Event {
    Event::Finding(Box::new(Finding {
        id: 7,
        state: crate::event::FindingState::Updated,
        kind,
        severity: Severity::Critical,
        subject: Some(Subject {
            tgid: 1,
            start_ns: 2,
            comm: name.into(),
            pool: None,
            cgroup: Some(name.into()),
        }),
        summary: name.to_owned(),
        evidence,
    }))
}

/// One event of each type, `name` in each of its strings.
fn every_type(name: &str) -> Vec<Event> {
    let text: Arc<str> = name.into();
    let owned = name.to_owned();
    let limit = Limit { path: Some(text.clone()), bytes: 5, headroom_bytes: 6, ..Limit::default() };
    vec![
        Event::Header(Box::new(Header {
            schema: SCHEMA.to_owned(),
            version: owned.clone(),
            config: Config {
                step_bytes: Some(1 << 20),
                horizon_s: 1.0 / 3.0,
                filters: Filters {
                    comm: Some(owned.clone()),
                    tgid: vec![1, 2],
                    cgroup: None,
                    php: true,
                },
                ..Config::default()
            },
            hooks: vec![Hook { name: owned.clone(), reason: owned.clone(), ..Hook::default() }],
            hostname: owned.clone(),
            ..Header::default()
        })),
        Event::Process(Process {
            tgid: 1,
            start_ns: 10_000_000,
            ppid: 0,
            comm: text.clone(),
            cmdline: Some(text.clone()),
            exe: None,
            uid: u32::MAX,
            cgroup: Some(text.clone()),
            php: Some(Php {
                sapi: text.clone(),
                pool: Some(text.clone()),
                master_tgid: None,
                version: None,
            }),
            cause: ProcessCause::Exec,
        }),
        Event::Growth(Growth { tgid: u32::MAX, anon_bytes: u64::MAX, ..Growth::default() }),
        Event::Growth(Growth {
            oom_score_adj: -1000,
            page_table_bytes: 4096,
            data_bytes: u64::MAX,
            ..Growth::default()
        }),
        Event::Cgroup(Box::new(Cgroup {
            path: text.clone(),
            max_bytes: Some(u64::MAX),
            shmem_bytes: Some(1),
            events: Some(CgroupEvents { under_oom: true, ..CgroupEvents::default() }),
            oom_group: true,
            oom_disabled: true,
            memsw_max_bytes: Some(8),
            ..Cgroup::default()
        })),
        Event::CgroupMove(CgroupMove { tgid: 1, start_ns: 2, from: None, to: text.clone() }),
        Event::CgroupGone(CgroupGone { id: u64::MAX, path: text.clone() }),
        Event::Tick(Tick {}),
        Event::Pressure(Pressure {
            scope: text.clone(),
            some_avg10: Some(0.1 + 0.2),
            full_avg10: Some(99.999_999_999_999_99),
            shmem_bytes: Some(0),
            ..Pressure::default()
        }),
        Event::Stall(Stall {
            tgid: 1,
            start_ns: 2,
            cgroup: Some(text.clone()),
            kind: StallKind::Memcg,
            duration_ns: 3,
        }),
        Event::Signal(Box::new(Signal {
            signal: 9,
            sender: party(name),
            target: Party { cgroup: None, ..party(name) },
            from_kernel: true,
        })),
        Event::Oom(Box::new(Oom {
            scope: scope(name),
            trigger: party(name),
            victims: vec![victim(name), victim(name)],
        })),
        Event::Php(Box::new(look(name))),
        Event::PhpGrowth(Box::new(PhpGrowth {
            tgid: 1,
            start_ns: 2,
            private_bytes: 3,
            stack: look(name).stack,
        })),
        Event::Exit(Exit { tgid: 1, start_ns: 2, code: None, signal: Some(9), peak_bytes: None }),
        finding(
            name,
            FindingKind::Runaway,
            Evidence::Runaway(Box::new(Runaway {
                rate_bytes_per_s: 2e7,
                limit_rate_bytes_per_s: 2.5e7,
                used_bytes: 1,
                grown_bytes: 2,
                growing_s: 3.5,
                share: 2.0 / 3.0,
                limit,
                eta_s: 1e-9,
                next_victim: Some(next_victim(name)),
                ..Runaway::default()
            })),
        ),
        finding(
            name,
            FindingKind::OomVerdict,
            Evidence::OomVerdict(Box::new(Verdict {
                victims: vec![victim(name)],
                trigger: party(name),
                culprit: Some(culprit(name)),
                grown_in_window: vec![culprit(name)],
                grown_since_seen: Vec::new(),
                window_s: 60.0,
                limit: scope(name),
                cascade: Cascade { number: 2, since_s: 0.7 },
                limit_rise_bytes: Some(7),
                limit_set_by: Some(LimitOwner { kind: OwnerKind::Unit, name: name.into() }),
                bystanders: vec![1, 2],
                advice: Some(name.to_owned()),
                next_victim: Some(next_victim(name)),
                lost_records: 3,
                watched_s: Some(0.7),
            })),
        ),
        finding(
            name,
            FindingKind::Leak,
            Evidence::Leak(Box::new(Leak {
                floor_rate_bytes_per_s: 0.5,
                request: look(name).request,
                limit: Limit { path: Some(text.clone()), ..Limit::default() },
                ..Leak::default()
            })),
        ),
        finding(
            name,
            FindingKind::Pool,
            Evidence::Pool(PoolDiagnosis {
                diagnosis: Diagnosis::SlowLeak,
                workers: 4,
                used_bytes: 5,
                median_bytes: 1,
                shared_bytes: 0,
                limit: Limit { path: Some(text.clone()), ..Limit::default() },
                largest: vec![PoolWorker {
                    tgid: 1,
                    start_ns: 2,
                    used_bytes: 3,
                    request: look(name).request,
                }],
                workers_that_fit: None,
                leak_bytes_per_request: Some(0.1),
                leak_requests: Some(99),
                max_requests: Some(7),
                lost_records: 3,
            }),
        ),
        finding(
            name,
            FindingKind::Killed,
            Evidence::Killed(Box::new(Killed {
                by: KilledBy::SystemdOomd,
                signal: 9,
                sender: Some(party(name)),
                used_bytes: 1,
                peak_bytes: None,
                request: look(name).request,
                term_s: Some(0.1 + 0.2),
                lost_records: 0,
            })),
        ),
        finding(
            name,
            FindingKind::Cascade,
            Evidence::Cascade(Box::new(Series {
                kills: vec![SeriesKill {
                    before_s: 0.1 + 0.2,
                    victims: vec![SeriesVictim { tgid: 1, start_ns: 2, comm: text.clone() }],
                    culprit: Some(SeriesCulprit {
                        tgid: 1,
                        start_ns: 2,
                        comm: text.clone(),
                        pool: Some(text.clone()),
                    }),
                }],
                number: 2,
                since_s: 0.7,
                limit: scope(name),
                respawned_by: Some(party(name)),
                cause: Some(SeriesCause { request: Some(text.clone()), ..SeriesCause::default() }),
                advice: owned.clone(),
                lost_records: u64::MAX,
            })),
        ),
        finding(
            name,
            FindingKind::Pressure,
            Evidence::Pressure(Box::new(LostWork {
                form: LostForm::Throttled,
                limit: Limit { path: Some(text.clone()), ..Limit::default() },
                stall_share: 1.0 / 3.0,
                some_avg10: Some(0.1 + 0.2),
                full_avg10: None,
                growers: Vec::new(),
                waiters: vec![Waiting {
                    tgid: 1,
                    start_ns: 2,
                    comm: text.clone(),
                    pool: Some(text.clone()),
                    used_bytes: 3,
                    rate_bytes_per_s: -0.1,
                    stall_share: 0.7,
                }],
                largest: None,
                lost_records: 1,
            })),
        ),
        Event::Lost(Lost { source: text, records: 4 }),
        Event::End(End { reason: owned, events: 5, lost: 6 }),
    ]
}

#[test]
fn every_type_comes_back_as_it_was() {
    let mut encoder = Encoder::default();
    for name in hostile() {
        for event in every_type(&name) {
            let at = Stamped { t_ns: u64::MAX, wall_ns: 1_764_000_000_123_456_789, event };
            let mut line = Vec::new();
            encoder.encode(&at, &mut line).unwrap();
            assert_eq!(decode(&line).unwrap(), at);
        }
    }
}

#[test]
fn a_line_is_one_line_of_valid_json_with_the_shared_keys() {
    for name in hostile() {
        for event in every_type(&name) {
            let mut line = Vec::new();
            encode(&Stamped { t_ns: 42, wall_ns: 0, event }, &mut line).unwrap();
            let (end, body) = line.split_last().unwrap();
            assert_eq!(*end, b'\n');
            assert!(!body.iter().any(|byte| *byte < 0x20), "control bytes are escaped");
            let value: serde_json::Value = serde_json::from_slice(body).unwrap();
            assert_eq!(value["t"], 42);
            assert_eq!(value["time"], "1970-01-01T00:00:00.000000000Z");
            assert!(value["type"].is_string());
        }
    }
}

#[test]
fn times_are_exact_to_the_nanosecond() {
    let mut encoder = Encoder::default();
    for (wall_ns, text) in [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
        (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
        (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
    ] {
        let mut line = Vec::new();
        let at = Stamped { t_ns: 1, wall_ns, event: Event::Tick(Tick {}) };
        encoder.encode(&at, &mut line).unwrap();
        assert_eq!(
            String::from_utf8(line.clone()).unwrap(),
            format!("{{\"t\":1,\"time\":\"{text}\",\"type\":\"tick\"}}\n")
        );
        assert_eq!(decode(&line).unwrap().wall_ns, wall_ns);
    }
}

#[test]
fn unknown_types_and_fields_are_passed_over() {
    let line = br#"{"type":"hologram","t":3,"time":"2026-01-01T00:00:00Z","stack":[{"a":1}]}"#;
    assert_eq!(decode(line).unwrap().event, Event::Unknown);
    let line = br#"{"type":"tick","t":3,"time":"2026-01-01T01:00:00+01:00","more":{"x":[]}}"#;
    let at = decode(line).unwrap();
    assert_eq!((at.event, at.wall_ns), (Event::Tick(Tick {}), 1_767_225_600_000_000_000));
}

#[test]
fn what_older_traces_lack_is_not_known_and_what_is_not_known_is_not_written() {
    let lines = [
        r#"{"type":"growth","t":3,"time":"2026-01-01T00:00:00.000000000Z","tgid":1,"start_ns":2,"anon_bytes":3,"file_bytes":4,"shmem_bytes":5,"swap_bytes":6,"minor_faults":7,"major_faults":8,"stall_ns":9}"#,
        r#"{"type":"cgroup","t":3,"time":"2026-01-01T00:00:00.000000000Z","id":1,"path":"/a","usage_bytes":2,"max_bytes":3,"high_bytes":null,"swap_usage_bytes":0,"swap_max_bytes":null,"reclaimable_bytes":null,"events":null}"#,
        r#"{"type":"pressure","t":3,"time":"2026-01-01T00:00:00.000000000Z","scope":"host","used_bytes":1,"limit_bytes":2,"available_bytes":3,"swap_free_bytes":4,"some_avg10":null,"full_avg10":null}"#,
    ];
    let value = |line: &[u8]| serde_json::from_slice::<serde_json::Value>(line).unwrap();
    for line in lines {
        let mut again = Vec::new();
        encode(&decode(line.as_bytes()).unwrap(), &mut again).unwrap();
        assert_eq!(value(&again), value(line.as_bytes()));
    }
}

#[test]
fn what_is_no_event_is_an_error() {
    let deep = format!(r#"{{"type":"x","t":1,"time":"","more":{}"#, "[".repeat(100_000));
    for line in [
        "",
        "{}",
        "[1]",
        "null",
        r#"{"type":"tick","t":-1,"time":"2026-01-01T00:00:00Z"}"#,
        r#"{"type":"tick","t":1,"time":"yesterday"}"#,
        r#"{"type":"tick","t":1,"time":"9999-01-01T00:00:00Z"}"#,
        r#"{"type":"growth","t":1,"time":"2026-01-01T00:00:00Z","tgid":1}"#,
        deep.as_str(),
    ] {
        assert!(decode(line.as_bytes()).is_err(), "{:.80}", line);
    }
    assert!(decode(b"{\"type\":\"\xff\"}").is_err());
}

#[test]
fn a_line_that_no_reader_would_take_is_not_written() {
    let mut out = b"before".to_vec();
    let event = Event::End(End { reason: "\x01".repeat(MAX_LINE_BYTES / 6), events: 0, lost: 0 });
    let error = encode(&Stamped { t_ns: 0, wall_ns: 0, event }, &mut out);
    assert!(matches!(error, Err(LineError::TooLong)));
    assert_eq!(out, b"before");
}
