//! `cargo xtask bench overhead`: what tracing costs page faults and php-fpm, and what the tracer
//! itself takes. Ends with 1 when a goal is missed. docs/overhead.md has the method and figures.
//!
//! `--quick` takes half a minute; its figures are too few to judge by, so that it only says what it
//! found. `--rounds N` sets the number of rounds. `--php [N]` measures another thing: what a loaded
//! pool pays for being watched, looked into and followed by PHP's own request probes, in N rounds.

mod bpf;
mod faults;
mod own;
mod pages;
mod php;
mod program;
mod rounds;
mod sample;
mod tracing;
mod weighing;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use rampage::kernel::btf::{Btf, VMLINUX};

use faults::Faulting;
use pages::Pool;
use sample::Goals;

/// How much is measured.
struct Extent {
    rounds: usize,
    weighings: usize,
    crowds: &'static [u32],
    own: Duration,
    /// Missed goals change the exit code.
    binding: bool,
}

const FULL: Extent = Extent {
    rounds: 20,
    weighings: 12,
    crowds: &[50, 1000, 5000],
    own: Duration::from_secs(20),
    binding: true,
};
const QUICK: Extent =
    Extent { rounds: 1, weighings: 1, crowds: &[50], own: Duration::from_secs(3), binding: false };

const PHP_ROUNDS: usize = 10;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let extent = match words[..] {
        [] => FULL,
        ["--quick"] => QUICK,
        ["--rounds", count] => Extent { rounds: count.parse().context("rounds")?, ..FULL },
        ["--php"] => return php::run(PHP_ROUNDS).map(|()| ExitCode::SUCCESS),
        ["--php", count] => {
            return php::run(count.parse().context("rounds")?).map(|()| ExitCode::SUCCESS);
        }
        [faults::ROLE] => return faults::serve().map(|()| ExitCode::SUCCESS),
        [weighing::CROWD, size] => {
            return weighing::crowd(size.parse()?).map(|()| ExitCode::SUCCESS);
        }
        _ => bail!("usage: bench_overhead [--quick | --rounds N | --php [N]]"),
    };
    let missed = measure(&extent)?;
    if missed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    println!("{missed} goals missed");
    Ok(if extent.binding { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn measure(extent: &Extent) -> Result<u32> {
    let btf = Btf::open(Path::new(VMLINUX))?;
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    println!("Linux {}", read("/proc/sys/kernel/osrelease"));
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find(|line| line.starts_with("model name")).unwrap_or("unknown CPU");
    println!("{} × {model}", std::thread::available_parallelism()?);
    println!("load average at the start: {}", read("/proc/loadavg"));
    let mut goals = Goals::default();
    let mut worker = Faulting::start()?;
    let pool = Pool::start()?;
    let measured = rounds::run(extent.rounds, &btf, &mut worker, &pool)?;
    measured.print();
    weighing::hooks(extent.weighings, &btf, &mut worker)?;
    weighing::sweeps(extent.crowds)?;
    own::run(extent.own, &mut worker, &pool, &mut goals)?;
    measured.judge(&mut goals);
    println!("load average at the end: {}", read("/proc/loadavg"));
    Ok(goals.missed())
}
