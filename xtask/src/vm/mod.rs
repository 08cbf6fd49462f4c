//! `cargo xtask vm`: the kernel tests in real kernels, from Debian's packages, in QEMU.
//!
//! [`catalog`] reads which machines there are, [`mod@bench`] makes them ready and runs them, [`kernels`] fetches, [`image`] makes the disk,
//! [`plan`] is what a guest is told and says, [`qemu`] boots one, [`table`] shows what came of it,
//! [`replay`] replays the guests' traces here. The other side is `tests/src/bin/guest`.

mod bench;
mod catalog;
mod image;
mod kernels;
mod plan;
mod qemu;
mod replay;
mod table;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use anyhow::{Context, bail, ensure};

use self::bench::Bench;
use self::catalog::{Catalog, Choice, Run};
use self::image::Programs;
use self::plan::{Ended, Outcome, Plan, Said};
use self::table::Table;
use crate::platform::Arch;
use crate::workspace::{Workspace, as_root};
use crate::{setup, support};

/// How the host is called beside the kernels.
const HOST: &str = "host";

/// Arguments of `cargo xtask vm`.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Run everything: all guests of all kernels, and every test on this host
    #[arg(long)]
    all: bool,
    /// Only this kernel (5.10, 6.1, 6.12, newest); may be given again
    #[arg(long, value_name = "NAME")]
    kernel: Vec<String>,
    /// Only this guest (v2, v1, swap, …); may be given again
    #[arg(long, value_name = "NAME")]
    guest: Vec<String>,
    /// Only tests whose name contains this; may be given again
    #[arg(long, value_name = "FILTER")]
    test: Vec<String>,
    /// List what would run, and run nothing
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    machines: Machines,
}

/// How guests are made and run.
#[derive(Debug, Default, clap::Args)]
pub struct Machines {
    /// Fetch the kernels anew, also when they are there
    #[arg(long)]
    refresh: bool,
    /// Do not fetch this kernel: take the one that is there, else go without
    #[arg(long, value_name = "NAME")]
    offline: Vec<String>,
    /// Virtualise by KVM instead of emulating: quicker, where KVM works
    #[arg(long)]
    kvm: bool,
    /// How many guests at a time [default: as many as this host has CPUs]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

/// Arguments of `cargo xtask verifier`.
#[derive(Debug, clap::Args)]
pub struct VerifierArgs {
    /// Take over what is found, and write docs/kernel-support.md from it
    #[arg(long)]
    bless: bool,
    #[command(flatten)]
    machines: Machines,
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  cargo xtask vm                               the quick set
  cargo xtask vm --all                         everything
  cargo xtask vm --kernel 5.10 --test rungs::  some tests, on one kernel
  cargo xtask vm --list";

/// Sets up and runs guests.
pub fn execute(workspace: &Workspace, args: &Args) -> anyhow::Result<()> {
    let catalog = Catalog::read(workspace)?;
    setup::execute(workspace)?;
    let programs = Programs::build(workspace, Arch::native())?;
    let tests = programs.list()?;
    let choice = Choice {
        all: args.all,
        kernels: args.kernel.clone(),
        guests: args.guest.clone(),
        tests: args.test.clone(),
    };
    let runs = catalog.select(&choice, &tests)?;
    if args.list {
        return list(&runs);
    }
    let Counts { passed, failed, nowhere } =
        run(workspace, &catalog, &programs, &tests, runs, args)?;
    println!("\n{passed} passed, {failed} failed");
    ensure!(failed == 0, "not every guest held");
    ensure!(passed > 0, "no test ran");
    ensure!(!args.all || nowhere == 0, "some tests ran nowhere");
    Ok(())
}

/// The quick set, as a part of `cargo xtask test`.
pub fn quick(workspace: &Workspace) -> anyhow::Result<Counts> {
    let catalog = Catalog::read(workspace)?;
    let programs = Programs::build(workspace, Arch::native())?;
    let tests = programs.list()?;
    let runs = catalog.select(&Choice::default(), &tests)?;
    run(workspace, &catalog, &programs, &tests, runs, &Args::default())
}

/// What came of a run.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Tests that passed, once for each machine.
    pub passed: usize,
    /// Tests and guests that failed, and traces that replay differently here.
    pub failed: usize,
    /// Tests that no machine could run.
    nowhere: usize,
}

/// Runs guests, and shows what came of it.
fn run(
    workspace: &Workspace,
    catalog: &Catalog,
    programs: &Programs,
    tests: &[String],
    runs: Vec<Run>,
    args: &Args,
) -> anyhow::Result<Counts> {
    let bench = Bench::set_up(workspace, catalog, runs, programs, &args.machines)?;
    let mut table = Table::default();
    if args.all {
        table.add(HOST, &on_host(workspace, programs, tests)?);
    }
    let reports = bench.run(args.machines.jobs);
    let mut failures = Vec::new();
    for report in &reports {
        table.add(&report.run.name(), &report.tests);
        failures.extend(report.error.clone());
        let folder = bench.results(&report.run);
        failures.extend(replay::differences(workspace, &report.run.name(), &folder)?);
    }
    let mut out = std::io::stdout();
    table.print(&mut out)?;
    fs::write(bench.folder.join("table.txt"), table.to_string()).context("writing the table")?;
    let nowhere = match args.all {
        true => table.ran_nowhere(tests.iter()),
        false => table.ran_nowhere(reports.iter().flat_map(|report| &report.run.tests)),
    };
    if nowhere.is_empty() {
        println!("\nevery one of these tests ran somewhere");
    } else {
        println!("\nran nowhere: {}", nowhere.join(", "));
    }
    for failure in &failures {
        println!("\n{failure}");
    }
    let (passed, failed) = table.count();
    Ok(Counts { passed, failed: failed + failures.len(), nowhere: nowhere.len() })
}

/// Boots each kernel once, and holds what it offers and how its verifier counts the programs
/// against tests/kernels.
pub fn verifier(workspace: &Workspace, args: &VerifierArgs) -> anyhow::Result<()> {
    let catalog = Catalog::read(workspace)?;
    setup::execute(workspace)?;
    let programs = Programs::build(workspace, Arch::native())?;
    let runs = catalog.recorders();
    let bench = Bench::set_up(workspace, &catalog, runs, &programs, &args.machines)?;
    let folder = bench.folder.join("recorded");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for report in bench.run(args.machines.jobs) {
        if let Some(error) = report.error {
            bail!("{error}");
        }
        let recorded = bench.results(&report.run).join("record");
        let to = folder.join(&report.run.kernel.name);
        fs::rename(&recorded, &to).with_context(|| recorded.display().to_string())?;
    }
    let known = workspace.root.join("tests/kernels");
    let docs = workspace.root.join("docs/kernel-support.md");
    support::execute(&known, &folder, &docs, args.bless)
}

/// Shows what a machine says as a test harness would, and keeps the outcomes.
fn hear(machine: &str, said: Said, tests: &mut Vec<Ended>) {
    let Said::End(ended) = said else { return };
    let Ended { name, outcome, seconds, text } = &ended;
    let outcome = match outcome {
        Outcome::Ok => "ok".to_owned(),
        Outcome::Failed => "FAILED".to_owned(),
        Outcome::Skipped => format!("skipped: needs {text}"),
    };
    let mut shown = format!("{machine}: test {name} ... {outcome} ({seconds:.1} s)\n");
    if ended.outcome != Outcome::Skipped {
        for line in text.lines() {
            shown.push_str("    ");
            shown.extend(line.chars().filter(|c| !c.is_control()));
            shown.push('\n');
        }
    }
    let mut out = std::io::stdout().lock();
    // A closed output is no reason to stop a guest half way.
    let _ = out.write_all(shown.as_bytes()).and_then(|()| out.flush());
    tests.push(ended);
}

/// The same tests on this host, as root.
fn on_host(
    workspace: &Workspace,
    programs: &Programs,
    tests: &[String],
) -> anyhow::Result<Vec<Ended>> {
    let guest = programs.others.iter().find(|(name, _)| name == "guest");
    let (_, guest) = guest.context("cargo built no program called guest")?;
    let path = workspace.target.join("vm/plan-host.json");
    let plan = Plan::on_host(tests, programs, &workspace.rampage());
    fs::write(&path, serde_json::to_vec(&plan)?).with_context(|| path.display().to_string())?;
    let mut command = as_root(guest)?;
    command.arg(&path).stdin(Stdio::null()).stdout(Stdio::piped());
    command.current_dir(&workspace.target);
    let mut child = command.spawn().context("starting the tests on this host")?;
    let stdout = child.stdout.take().context("no output of the tests")?;
    let mut ended = Vec::new();
    let mut finished = false;
    for said in BufReader::new(stdout).lines() {
        match serde_json::from_str(&said.context("reading the tests' output")?)? {
            Said::Finished {} => finished = true,
            said => hear(HOST, said, &mut ended),
        }
    }
    let status = child.wait().context("waiting for the tests on this host")?;
    ensure!(finished && status.success(), "the tests on this host did not finish: {status}");
    Ok(ended)
}

fn list(runs: &[Run]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for run in runs {
        writeln!(out, "{} (lacks {})", run.name(), run.lacks().join(", "))?;
        for test in &run.tests {
            writeln!(out, "    {test}")?;
        }
    }
    Ok(())
}
