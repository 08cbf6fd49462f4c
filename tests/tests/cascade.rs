//! A process that is started anew after each OOM kill: the second kill is told of as a cascade, with
//! who starts it; one kill alone is none.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rampage::event::{Event, Evidence, Finding, FindingKind, FindingState, Series, Severity};
use tests::cgroup::MemoryCgroup;
use tests::hog::leak;
use tests::needs;
use tests::scene::Scene;

const LIMIT_MIB: u64 = 64;
const SOON: Duration = Duration::from_secs(60);

/// What is said of cascades at the limit of `path`.
fn cascade<'a>(event: &'a Event, path: &str) -> Option<(&'a Finding, &'a Series)> {
    let Event::Finding(finding) = event else { return None };
    match &finding.evidence {
        Evidence::Cascade(series) if series.limit.cgroup.as_deref() == Some(path) => {
            Some((finding, series))
        }
        _ => None,
    }
}

#[test]
fn a_leak_that_comes_back() -> Result<()> {
    needs!(Btf);
    let scene = Scene::with(MemoryCgroup::new("cascade", LIMIT_MIB << 20)?)?;
    let path = scene.cgroup.path();
    // One after the other, until there were three.
    let parent = leak(&scene.cgroup, 3, LIMIT_MIB, 60)?;
    scene.tracer.wait_for("the third kill", SOON, |line| {
        cascade(&line.event, &path).is_some_and(|(_, series)| series.number == 3)
    })?;
    let trace = scene.finish()?;
    let all: Vec<_> = trace.events().filter_map(|event| cascade(event, &path)).collect();
    for (finding, _) in &all {
        println!("{}", finding.summary);
    }
    ensure!(all.len() == 2, "{all:#?}");
    let states: Vec<_> = all.iter().map(|(finding, _)| finding.state).collect();
    assert_eq!(states, [FindingState::Raised, FindingState::Updated]);
    let (finding, series) = all[1];
    assert_eq!((finding.kind, finding.severity), (FindingKind::Cascade, Severity::Critical));
    assert_eq!(series.kills.len(), 3);
    let by = series.respawned_by.as_ref().context("who starts it")?;
    assert_eq!((by.tgid, &*by.comm), (parent.pid(), "parent"));
    let cause = series.cause.as_ref().context("what they have in common")?;
    assert_eq!((cause.comm.as_deref(), cause.kills), (Some("leaker"), 3));
    let numbers: Vec<_> = trace
        .verdicts()
        .into_iter()
        .filter(|(_, _, verdict)| verdict.limit.cgroup.as_deref() == Some(&*path))
        .map(|(_, _, verdict)| verdict.cascade.number)
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
    Ok(())
}
