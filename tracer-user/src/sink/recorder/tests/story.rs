//! A run over several segments is read as one, and each of them alone.

use std::fs;

use super::*;
use crate::event::{
    Cgroup, FindingKind, Oom, OomScope, Party, Process, ProcessCause, ScopeKind, Victim,
};

const MIB: u64 = 1 << 20;

fn process(tgid: u32, comm: &str) -> Event {
    Event::Process(Process {
        tgid,
        start_ns: 10_000_000,
        ppid: 1,
        comm: comm.into(),
        cmdline: None,
        exe: None,
        uid: 33,
        cgroup: Some("/web".into()),
        php: None,
        cause: ProcessCause::Found,
    })
}

fn oom(victim: u32, comm: &str) -> Event {
    let party = |tgid, comm: &str| Party {
        tgid,
        start_ns: 10_000_000,
        comm: comm.into(),
        cgroup: Some("/web".into()),
    };
    Event::Oom(Box::new(Oom {
        scope: OomScope {
            kind: ScopeKind::Memcg,
            cgroup: Some("/web".into()),
            limit_bytes: Some(256 * MIB),
        },
        trigger: party(7, "import"),
        victims: vec![Victim {
            tgid: victim,
            start_ns: 10_000_000,
            comm: comm.into(),
            cgroup: Some("/web".into()),
            anon_bytes: 30 * MIB,
            file_bytes: 0,
            shmem_bytes: 0,
            swap_bytes: 0,
            oom_score_adj: 0,
        }],
    }))
}

/// 80 s: one grows until another is killed, twice, with some quiet before and between.
pub(super) fn story() -> Vec<Stamped> {
    let mut events = vec![at(0, header("b")), at(0, process(7, "import"))];
    for tgid in 8..12 {
        events.push(at(0, process(tgid, "../idle\n")));
    }
    for second in 0..80 {
        let t_ns = second * S;
        let phase = second % 40;
        let grown = if phase < 8 { 20 } else { 20 + 6 * (phase - 7) };
        for tenth in 0..4 {
            events.push(at(t_ns + tenth * S / 10, stall(second * 10 + tenth)));
        }
        events.push(at(t_ns + S / 2, growth(7, grown * MIB)));
        for tgid in 8..12 {
            events.push(at(t_ns + S / 2, growth(tgid, 8 * MIB)));
        }
        let cgroup = Cgroup {
            path: "/web".into(),
            usage_bytes: (grown + 32) * MIB,
            max_bytes: Some(256 * MIB),
            reclaimable_bytes: Some(0),
            ..Cgroup::default()
        };
        events.push(at(t_ns + S / 2, Event::Cgroup(Box::new(cgroup))));
        events.push(at(t_ns + S - 1, tick()));
        if phase == 39 {
            events.push(at(t_ns + S - 1, oom(8 + (second / 40) as u32, "../idle\n")));
        }
    }
    events
}

#[test]
fn a_joined_replay_has_exactly_the_findings_of_the_live_run() {
    let folder = tempfile::tempdir().unwrap();
    let live = record(&settings(folder.path()), &story());
    assert!(live.findings().len() >= 4, "{:#?}", live.findings());
    let segments = segments_of(folder.path());
    assert!(segments.len() >= 12, "{segments:?}");
    for path in [folder.path().to_owned(), folder.path().join("segments")] {
        let (joined, breaks, is_complete) = replay(&path);
        assert_eq!(joined.findings(), live.findings());
        assert_eq!(joined.stalls(), live.stalls());
        assert_eq!((breaks, is_complete), (Vec::new(), true));
        let headers = joined.0.iter().filter(|at| matches!(at.event, Event::Header(_)));
        assert_eq!(headers.count(), 1);
        assert!(!joined.0.iter().any(|at| matches!(at.event, Event::Restated(_))));
    }
}

#[test]
fn each_segment_is_a_trace_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let live = record(&settings(folder.path()), &story());
    let mut stalls = Vec::new();
    for (number, path) in segments_of(folder.path()) {
        let (alone, breaks, is_complete) = replay(&path);
        assert!(breaks.is_empty() && is_complete, "segment {number}");
        let Event::Header(header) = &alone.0[0].event else { panic!("no header") };
        let place = header.segment.clone().unwrap();
        assert_eq!((place.number, place.continues), (number, number > 1));
        let is_known = |at: &Stamped| matches!(&at.event, Event::Process(p) if p.tgid == 11);
        assert!(alone.0.iter().any(is_known), "segment {number} says who is there");
        stalls.extend(alone.stalls());
    }
    assert_eq!(stalls, live.stalls(), "nothing is lost or doubled between two segments");
}

#[test]
fn without_its_first_segments_a_run_says_the_same_of_what_began_later() {
    let folder = tempfile::tempdir().unwrap();
    let live = record(&settings(folder.path()), &story());
    let segments = segments_of(folder.path());
    // Those of the first 40 s are gone, and with them the first kill.
    for (_, path) in &segments[..8] {
        fs::remove_file(path).unwrap();
    }
    let (joined, breaks, _) = replay(folder.path());
    assert_eq!(breaks, []);
    let said = |seen: &Seen, kind: FindingKind| -> Vec<(u64, Option<u32>)> {
        let of_kind = seen.findings().into_iter().filter_map(|at| match &at.event {
            Event::Finding(told) if told.kind == kind => {
                Some((at.t_ns, told.subject.as_ref().map(|subject| subject.tgid)))
            }
            _ => None,
        });
        of_kind.collect()
    };
    assert!(said(&joined, FindingKind::Runaway).iter().all(|(_, tgid)| *tgid == Some(7)));
    assert!(!said(&joined, FindingKind::Runaway).is_empty());
    let [_, second] = said(&live, FindingKind::OomVerdict)[..] else { panic!("two kills") };
    assert_eq!(said(&joined, FindingKind::OomVerdict), [second]);
}

#[test]
fn a_missing_or_cut_segment_and_a_restart_are_told() {
    let folder = tempfile::tempdir().unwrap();
    record(&settings(folder.path()), &story());
    let segments = segments_of(folder.path());
    fs::remove_file(&segments[3].1).unwrap();
    fs::remove_file(&segments[7].1).unwrap();
    fs::remove_file(&segments[8].1).unwrap();
    let (joined, breaks, _) = replay(folder.path());
    let missing = |after, before| Break::Missing { after, before };
    assert_eq!(breaks, [missing(3, 5), missing(7, 10)]);
    assert_eq!(
        breaks[0].to_string(),
        "segment 4 is missing; what was known before is not used after it"
    );
    assert!(breaks[1].to_string().starts_with("segments 8 to 9 are missing"), "{}", breaks[1]);
    let headers = joined.0.iter().filter(|at| matches!(at.event, Event::Header(_)));
    assert_eq!(headers.count(), 3);

    // Cut at the end of a frame, that is without its `end`.
    let packed = fs::read(&segments[0].1).unwrap();
    let last = packed.windows(4).rposition(|bytes| bytes == b"\x28\xb5\x2f\xfd").unwrap();
    fs::write(&segments[0].1, &packed[..last]).unwrap();
    let (_, breaks, _) = replay(folder.path());
    assert_eq!(breaks[0], Break::Cut { number: 1 });

    let later: Vec<_> = story()
        .into_iter()
        .map(|at| Stamped { t_ns: at.t_ns + 100 * S, wall_ns: at.wall_ns + 100 * S as i64, ..at })
        .collect();
    let live = record(&settings(folder.path()), &later);
    let (joined, breaks, _) = replay(folder.path());
    let Some(Break::Restarted { gap: Some(gap) }) = breaks.last() else { panic!("{breaks:?}") };
    assert!(gap.clean && gap.seconds.is_some_and(|s| (19.0..22.0).contains(&s)), "{gap:?}");
    let told = joined.findings();
    assert_eq!(told[told.len() - live.findings().len()..], live.findings()[..]);
}
