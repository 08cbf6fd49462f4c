//! The timeline of a scenario: its steps, one after the other, each at its second.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::spec::{Action, Scenario};
use super::stage::Stage;
use crate::clock;
use crate::fastcgi::Request;
use crate::tracer::Tracer;

/// The recorder, which a scenario may start late.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Once it runs.
    pub tracer: Option<Tracer>,
    /// When it was ready, CLOCK_BOOTTIME ns.
    pub ready_ns: u64,
}

impl Recorder {
    /// Starts it and waits until it is ready.
    pub fn start(&mut self, path: &Path) -> Result<()> {
        self.tracer = Some(Tracer::record(path, "")?);
        self.ready_ns = clock::boot_ns();
        Ok(())
    }
}

/// Plays the timeline to its end; returns when each step began, ns since boot.
pub fn play(
    scenario: &Scenario,
    stage: &mut Stage,
    recorder: &mut Recorder,
    path: &Path,
) -> Result<Vec<u64>> {
    let started = Instant::now();
    let mut moments = vec![0; scenario.step.len()];
    let mut order: Vec<usize> = (0..scenario.step.len()).collect();
    order.sort_by(|a, b| scenario.step[*a].at.total_cmp(&scenario.step[*b].at));
    let wait = |second: f64| {
        let due = started + Duration::from_secs_f64(second);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    };
    // Starts a late recorder that is due by `until`, s.
    let mut record_by = |until: f64| -> Result<()> {
        if let Some(second) = scenario.tracer_at
            && second <= until
            && recorder.tracer.is_none()
        {
            wait(second);
            recorder.start(path)?;
        }
        Ok(())
    };
    for at in order {
        let step = &scenario.step[at];
        record_by(step.at)?;
        wait(step.at);
        moments[at] = clock::boot_ns();
        act(scenario, stage, &step.action).with_context(|| format!("the step at {} s", step.at))?;
    }
    record_by(f64::INFINITY)?;
    wait(scenario.seconds);
    Ok(moments)
}

fn act(scenario: &Scenario, stage: &mut Stage, action: &Action) -> Result<()> {
    match action {
        Action::Start(name) => stage.start(scenario, name),
        Action::Reuse { actor, of } => stage.reuse(scenario, actor, of),
        Action::Go(name) => stage.actor(name)?.go(),
        Action::Run(text) => stage.run(text),
        Action::Request { to, script, query, worker } => {
            let uri = format!("/{script}?{query}");
            let fpm = stage.actor(to)?.fpm()?;
            let (request, tgid) = fpm.ask_for_worker("GET", uri.as_bytes(), script)?;
            stage.call(worker, tgid)?;
            // Whether it is answered is not our business: it may be killed.
            std::thread::spawn(move || drop(request.finish()));
            Ok(())
        }
        Action::Load { to, script, query, clients, seconds } => {
            let fpm = stage.actor(to)?.fpm()?;
            let until = Instant::now() + Duration::from_secs_f64(*seconds);
            for _ in 0..*clients {
                let (socket, script, query) = (fpm.socket(), fpm.script(script), query.clone());
                std::thread::spawn(move || {
                    while Instant::now() < until {
                        match Request::send(&socket, &script, &query).map(Request::finish) {
                            Ok(Ok(_)) => {}
                            _ => std::thread::sleep(Duration::from_millis(50)),
                        }
                    }
                });
            }
            Ok(())
        }
        Action::Signal { signal, to, comm } => stage.signal(*signal, to, comm),
        Action::Limit { cgroup, mib } => {
            stage.cgroup(cgroup)?.set_limit(if *mib == 0 { u64::MAX } else { mib << 20 })
        }
    }
}
