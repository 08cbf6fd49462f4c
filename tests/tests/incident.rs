//! The outage in miniature: real servers with the configuration that caused it, in a 32nd of the memory. As it
//! was; with rampage started in the middle; and with what the audit proposes. In one memory cgroup of this host,
//! and until the warning as a whole machine with swap.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rampage::event::{Event, Evidence, Finding, FindingKind, NextVictim, Runaway, ScopeKind};
use tests::clock;
use tests::foretold;
use tests::incident::audited::Audited;
use tests::incident::load::{Load, Log, Schedule};
use tests::incident::site::Site;
use tests::incident::sleeper::Sleeper;
use tests::incident::story::{self, Story};
use tests::incident::tree::Tree;
use tests::incident::witness::Witness;
use tests::incident::{LIMIT_BYTES, World};
use tests::marks::Marks;
use tests::needs;
use tests::trace::{Line, Trace, any_in};
use tests::tracer::Tracer;

/// An import every few seconds; then the queue sends all that failed at once, and those that waited.
const LOAD: Schedule = Schedule {
    pages_per_s: 10,
    articles: 200,
    imports_ms: &[
        12_000, 15_000, 18_000, 21_000, // one after the other
        25_000, 25_050, 25_100, 25_150, 25_200, 25_250, 25_300, 25_350, 25_400, 25_450, 25_500,
        25_550,
    ],
    lasts_ms: 45_000,
};
/// One after the other, for a machine that is emulated: a page takes twenty times as long there.
const EMULATED_LOAD: Schedule = Schedule {
    pages_per_s: 1,
    articles: 10,
    imports_ms: &[12_000, 16_000, 20_000, 24_000],
    lasts_ms: 90_000,
};
const REDIS: &str = "/etc/redis/redis.conf";
/// Pages only.
const GOOD_DAY: Schedule = Schedule { imports_ms: &[], lasts_ms: 10_000, ..LOAD };
/// Until then no more than one import begins at a time.
const BURST_MS: u64 = 25_000;

/// What a run of the site came to.
struct Run {
    site: Site,
    witness: Witness,
    log: Log,
    trace: Trace,
    path: String,
}

impl Run {
    fn tell(&self) {
        let mut story = Story::new(self.log.started_ns);
        story.site(&self.site, &self.witness);
        story.trace(&self.trace, &self.path);
        story.pages(&self.log, LOAD.lasts_ms);
        story.print();
        let rate = self.log.rate(0, LOAD.lasts_ms);
        println!("of {} pages {} came: {:.1} %", rate.asked, rate.answered, rate.percent());
        println!("lost: {:?}", self.trace.losses());
    }

    /// Findings about this limit or somebody in it.
    fn findings(&self) -> impl Iterator<Item = (&Line, &Finding)> {
        self.trace.findings().into_iter().filter(|(line, _)| story::concerns(line, &self.path))
    }

    fn is_importer(&self, finding: &Finding) -> bool {
        finding.subject.as_ref().is_some_and(|subject| self.witness.is_importer(subject.tgid))
    }
}

/// The request and the function that the page is known to spend its memory in.
fn is_explained(runaway: &Runaway) -> bool {
    let uri = runaway.request.as_ref().and_then(|request| request.uri.as_deref());
    let function = runaway.php_growth.first().and_then(|spot| spot.function.as_deref());
    uri.is_some_and(|uri| uri.starts_with("/import?")) && function == Some("App\\Importer::load")
}

#[test]
fn as_it_was() -> Result<()> {
    needs!(Btf, Tracefs, PhpFpm, PhpMysql, Mariadb, Redis, Nginx);
    let tree = Tree::new(World::Cgroup)?;
    let site = Site::start(&tree)?;
    let found = Audited::run(&site, &[])?;
    found.tell("as it was");
    check_causes(&found, "swap is 82 % full")?;
    let path = site.cgroup().path();
    let marks = Marks::record()?;
    let witness = Witness::new(&tree, site.place());
    let tracer = Tracer::watch("")?;
    let log = Load::start(site.socket(), LOAD).finish()?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let run = Run { site, witness, log, trace, path };
    run.tell();

    let kills = foretold::before_kills(&run.trace, &run.path)?;
    let first = kills.first().context("no kill")?;
    let burst_ns = run.log.started_ns + BURST_MS * 1_000_000;
    ensure!(first.t_ns < burst_ns, "one import after the other exhausts nothing");
    check_warning(&run, first.t_ns)?;
    check_victims(&run, &kills, &marks)?;
    check_verdicts(&run, burst_ns)?;
    check_cascade(&run)?;
    // What the customers saw.
    let outage =
        (0..LOAD.lasts_ms / 1000).map(|second| run.log.rate(second * 1000, second * 1000 + 1000));
    let outage = outage.filter(|rate| rate.answered == 0).count();
    println!("for {outage} s no page came");
    ensure!(outage >= 3, "the site was never down");
    Ok(())
}

/// Both root causes of the outage, and these words about the swap.
fn check_causes(found: &Audited, swap: &str) -> Result<()> {
    found.must_say("critical", "/etc/php/8.2/fpm/pool.d/www.conf", "20 workers of 256 MiB")?;
    found.must_say(
        "warning",
        "/etc/mysql/mysql.conf.d/performance.cnf",
        "that file is never read",
    )?;
    found.must_say("warning", "/proc/meminfo", swap)
}

/// Before the first kill it is said who, at which request, in which function, and which limit.
fn check_warning(run: &Run, kill_ns: u64) -> Result<()> {
    let warning = run.findings().find(|(_, finding)| match &finding.evidence {
        Evidence::Runaway(runaway) => {
            finding.kind == FindingKind::Runaway
                && runaway.limit.path.as_deref() == Some(&*run.path)
                && is_explained(runaway)
        }
        _ => false,
    });
    let (line, finding) = warning.context("nobody was named with request and function")?;
    ensure!(run.is_importer(finding), "{}", finding.summary);
    let lead_s = (kill_ns as f64 - line.arrival_ns as f64) / 1e9;
    println!("warned {lead_s:.1} s before the first kill: {}", finding.summary);
    ensure!(lead_s > 0.0, "the warning was read after the kill");
    let subject = finding.subject.as_ref().context("subject")?;
    assert_eq!(subject.pool.as_deref(), Some("www"));
    Ok(())
}

/// As many as the kernel killed, and each of them the one that was named for sure before.
fn check_victims(run: &Run, kills: &[foretold::Foretold<'_>], marks: &Marks) -> Result<()> {
    let victims: Vec<u32> =
        kills.iter().flat_map(|kill| kill.oom.victims.iter().map(|victim| victim.tgid)).collect();
    assert_eq!(victims.len() as u64, run.site.cgroup().oom_kills()?, "{victims:?}");
    let marked = marks.tids()?;
    ensure!(victims.iter().all(|tgid| marked.contains(tgid)), "{victims:?} of {marked:?}");
    let (mut certain, mut right, mut told) = (0, 0, 0);
    for kill in kills {
        let named = kill.named.as_ref().context("nobody is named as the next victim")?;
        let is_right = kill.oom.victims.iter().any(|victim| victim.tgid == named.tgid);
        ensure!(is_right || !named.is_certain, "{named:?}, but killed {:?}", kill.oom.victims);
        certain += usize::from(named.is_certain);
        right += usize::from(is_right);
        let said = last_said(run, kill.t_ns);
        told +=
            usize::from(said.is_some_and(|said| {
                kill.oom.victims.iter().any(|victim| victim.tgid == said.tgid)
            }));
    }
    println!(
        "{} kills: {right} next victims named rightly just before, {certain} of them for sure; {told} by the \
         last finding before",
        kills.len()
    );
    ensure!(certain > 0, "none was sure");
    ensure!(told > 0, "no finding named who was killed next");
    Ok(())
}

/// Whom the last finding before a moment named as the next victim.
fn last_said(run: &Run, until_ns: u64) -> Option<&NextVictim> {
    let findings: Vec<_> = run.findings().take_while(|(line, _)| line.t_ns < until_ns).collect();
    findings.into_iter().rev().find_map(|(_, finding)| match &finding.evidence {
        Evidence::Runaway(runaway) if finding.kind == FindingKind::Runaway => {
            runaway.next_victim.as_ref()
        }
        Evidence::OomVerdict(verdict) => verdict.next_victim.as_ref(),
        _ => None,
    })
}

/// Each kill has one. It names an importer; where many import at the same time it may name nobody alone, and
/// then says that it were the workers of the pool.
fn check_verdicts(run: &Run, burst_ns: u64) -> Result<()> {
    let verdicts: Vec<_> = run
        .trace
        .verdicts()
        .into_iter()
        .filter(|(_, _, verdict)| any_in(&verdict.victims, &run.path))
        .collect();
    assert_eq!(verdicts.len(), run.trace.ooms_in(&run.path).len(), "a verdict for each kill");
    let (mut named, mut bystanders) = (0, Vec::new());
    for (line, finding, verdict) in &verdicts {
        match &verdict.culprit {
            Some(culprit) => {
                ensure!(run.witness.is_importer(culprit.tgid), "{}", finding.summary);
                named += 1;
            }
            None => {
                ensure!(line.t_ns > burst_ns, "nobody is named: {}", finding.summary);
                ensure!(finding.summary.contains("pool www together grew"), "{}", finding.summary);
            }
        }
        let victims = verdict.victims.iter().filter(|victim| !run.witness.is_importer(victim.tgid));
        bystanders.extend(victims.map(|victim| victim.comm.to_string()));
    }
    println!(
        "{} verdicts, {named} name one; killed, though not importing: {bystanders:?}",
        verdicts.len()
    );
    ensure!(bystanders.iter().any(|comm| comm == "mariadbd"), "MariaDB was never killed");
    Ok(())
}

fn check_cascade(run: &Run) -> Result<()> {
    let series = run.findings().filter_map(|(_, finding)| match &finding.evidence {
        Evidence::Cascade(series) => Some(series),
        _ => None,
    });
    let last = series.last().context("no cascade was told of")?;
    assert_eq!(last.number as usize, run.trace.ooms_in(&run.path).len());
    Ok(())
}

#[test]
fn started_in_the_middle() -> Result<()> {
    needs!(Btf, PhpFpm, PhpMysql, Mariadb, Redis, Nginx);
    let tree = Tree::new(World::Cgroup)?;
    let site = Site::start(&tree)?;
    let path = site.cgroup().path();
    let witness = Witness::new(&tree, site.place());
    let load = Load::start(site.socket(), LOAD);
    clock::wait_for("the first kill", Duration::from_secs(30), || {
        Ok((site.cgroup().oom_kills()? > 0).then_some(()))
    })?;
    let (started_ns, largest) = (clock::boot_ns(), witness.largest());
    let tracer = Tracer::watch("")?;
    let log = load.finish()?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let run = Run { site, witness, log, trace, path };
    run.tell();
    let (worker, bytes) = largest.context("nobody imports")?;
    println!("started when {worker} had {} of {} MiB", bytes >> 20, LIMIT_BYTES >> 20);

    let named = run.findings().find(|(_, finding)| match &finding.evidence {
        Evidence::Runaway(runaway) => run.is_importer(finding) && is_explained(runaway),
        _ => false,
    });
    let (line, finding) = named.context("nobody was named with request and function")?;
    let after_s = (line.arrival_ns as f64 - started_ns as f64) / 1e9;
    println!("named {after_s:.1} s after its start: {}", finding.summary);
    ensure!(after_s <= 5.0 * f64::from(clock::patience()), "that is too late");
    Ok(())
}

#[test]
fn after_the_plan() -> Result<()> {
    needs!(Btf, PhpFpm, PhpMysql, Mariadb, Redis, Nginx);
    let tree = Tree::new(World::Cgroup)?;
    let site = Site::start(&tree)?;
    // A good day, for what a worker needs.
    let good_day = tree.at("/good-day.jsonl");
    let recorder = Tracer::record(&good_day, "")?;
    Load::start(site.socket(), GOOD_DAY).finish()?;
    recorder.finish()?;

    let found = Audited::run(&site, &[])?;
    found.tell("as it was");
    check_causes(&found, "swap is 82 % full")?;

    let (trace, folder) = (good_day.display().to_string(), tree.path().display().to_string());
    let planned = Audited::run(&site, &["--trace", &trace, "--plan", "--emit", &folder])?;
    planned.tell("with a trace of a good day");
    assert_eq!(planned.planned_bytes(), LIMIT_BYTES, "the plan adds up to the memory");
    for line in planned.lines_by_hand(REDIS) {
        tree.append(REDIS, line)?;
    }
    site.stop()?;

    let site = Site::start(&tree)?;
    let after = Audited::run(&site, &[])?;
    after.tell("after its plan");
    ensure!(after.findings().iter().all(|[severity, ..]| *severity != "critical"));
    let path = site.cgroup().path();
    let witness = Witness::new(&tree, site.place());
    let tracer = Tracer::watch("")?;
    let log = Load::start(site.socket(), LOAD).finish()?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    let run = Run { site, witness, log, trace, path };
    run.tell();
    assert_eq!(run.witness.imports().len(), LOAD.imports_ms.len(), "imports that began");
    assert_eq!(run.site.cgroup().oom_kills()?, 0);
    let rate = run.log.rate(0, LOAD.lasts_ms);
    ensure!(rate.percent() >= 99.0, "{rate:?}; {}", run.site.php_log());
    Ok(())
}

/// As a whole machine, most of whose swap is used before anything happens: until the warning.
#[test]
fn machine_is_warned() -> Result<()> {
    needs!(Btf, PhpFpm, PhpMysql, Mariadb, Redis, Nginx, WholeMachine, CgroupV2, Swap);
    let _sleeper = Sleeper::on_swap()?;
    let tree = Tree::new(World::Machine)?;
    let site = Site::start(&tree)?;
    let found = Audited::run(&site, &[])?;
    found.tell("as it was");
    // Of the sleeper 82 %, and whatever else was put out.
    check_causes(&found, "swap is 8")?;
    let witness = Witness::new(&tree, site.place());
    let tracer = Tracer::watch("")?;
    let customers = Load::start(site.socket(), EMULATED_LOAD);
    let line = tracer.wait_for("a warning", Duration::from_secs(20), |line| {
        let Event::Finding(finding) = &line.event else { return false };
        matches!(&finding.evidence, Evidence::Runaway(runaway)
            if runaway.limit.kind == ScopeKind::Host && is_explained(runaway))
    })?;
    let kills = site.cgroup().oom_kills()?;
    let Event::Finding(finding) = &line.event else { bail!("no finding: {line:?}") };
    let after_s = (line.arrival_ns as f64 - customers.started_ns as f64) / 1e9;
    println!("measured: warned {after_s:.1} s after the first customer: {}", finding.summary);
    assert_eq!(kills, 0, "the warning came after a kill");
    let tgid = finding.subject.as_ref().map(|subject| subject.tgid);
    ensure!(tgid.is_some_and(|tgid| witness.is_importer(tgid)), "{}", finding.summary);
    let Evidence::Runaway(runaway) = &finding.evidence else { bail!("{finding:?}") };
    let next = runaway.next_victim.as_ref().context("nobody is named as the next victim")?;
    ensure!(site.cgroup().processes()?.contains(&next.tgid), "{next:?}");
    Ok(())
}
