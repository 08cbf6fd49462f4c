//! Tables A and B: what each condition costs faults and php-fpm, in interleaved rounds.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rampage::kernel::btf::Btf;

use crate::bpf;
use crate::faults::{Faulting, Way};
use crate::pages::Pool;
use crate::sample::{Goals, Spread};
use crate::tracing::Tracing;

const SMALL: Duration = Duration::from_millis(400);
const HUGE: Duration = Duration::from_millis(250);
const PAGES: Duration = Duration::from_millis(2000);
/// How long a round waits for another tracer on this host to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Values of one condition, one for each round.
#[derive(Default)]
struct Series {
    small_ns: Vec<f64>,
    huge_ns: Vec<f64>,
    per_s: Vec<f64>,
    /// Requests per second of CPU time, the tracer's own included.
    per_cpu_s: Vec<f64>,
}

/// All conditions.
pub struct Rounds {
    series: [Series; Tracing::ALL.len()],
    disturbed: u32,
    faults_per_request: Vec<f64>,
}

/// Runs so many rounds, each with all conditions, in turns of another order.
pub fn run(count: usize, btf: &Btf, worker: &mut Faulting, pool: &Pool) -> Result<Rounds> {
    let mut rounds =
        Rounds { series: Default::default(), disturbed: 0, faults_per_request: Vec::new() };
    worker.run(Way::Small, SMALL)?;
    for round in 0..count {
        let mut values = [[0.0; 4]; Tracing::ALL.len()];
        let mut disturbed = false;
        for turn in 0..Tracing::ALL.len() {
            let at = (turn + round) % Tracing::ALL.len();
            let condition = Tracing::ALL[at];
            disturbed |= !alone()?;
            let active = condition.start(btf)?;
            let small = worker.run(Way::Small, SMALL)?;
            let huge = worker.run(Way::Huge, HUGE)?;
            values[at] = [small.fault_ns, huge.fault_ns, 0.0, 0.0];
            if condition.serves_pages() {
                let own = active.cpu_ns()?;
                let served = pool.run(PAGES)?;
                let cpu_s = (served.cpu_ns + active.cpu_ns()? - own) as f64 / 1e9;
                values[at][2..].copy_from_slice(&[served.per_s, served.requests as f64 / cpu_s]);
                rounds.faults_per_request.push(served.faults as f64 / served.requests as f64);
            }
            active.stop(worker.pid())?;
        }
        disturbed |= bpf::loaded_tracing_programs()? > 0;
        if disturbed {
            rounds.disturbed += 1;
            continue;
        }
        for (series, [small, huge, per_s, per_cpu_s]) in rounds.series.iter_mut().zip(values) {
            series.small_ns.push(small);
            series.huge_ns.push(huge);
            series.per_s.push(per_s);
            series.per_cpu_s.push(per_cpu_s);
        }
    }
    let good = rounds.series[0].small_ns.len();
    ensure!(good > 0, "all {count} rounds were disturbed by another tracer on this host");
    Ok(rounds)
}

/// Waits until nobody else traces this host; false = in vain.
fn alone() -> Result<bool> {
    let start = Instant::now();
    while bpf::loaded_tracing_programs()? > 0 {
        if start.elapsed() > PATIENCE {
            return Ok(false);
        }
        sleep(Duration::from_millis(50));
    }
    Ok(true)
}

impl Rounds {
    /// Prints both tables.
    pub fn print(&self) {
        let [base, ..] = &self.series;
        println!("\n## Faults: {} rounds, {} disturbed", base.small_ns.len(), self.disturbed);
        println!(
            "| tracing | ns per 4 KiB fault | added ns | times (a) | ns per THP fault | times (a) |"
        );
        println!("|---|---|---|---|---|---|");
        for (condition, series) in Tracing::ALL.iter().zip(&self.series) {
            println!(
                "| {} | {} | {} | {} | {} | {} |",
                condition.name(),
                Spread::of(series.small_ns.iter().copied()).show(0),
                added(&series.small_ns, &base.small_ns).show(0),
                ratio(&series.small_ns, &base.small_ns).show(3),
                Spread::of(series.huge_ns.iter().copied()).show(0),
                ratio(&series.huge_ns, &base.huge_ns).show(3),
            );
        }
        println!(
            "\n## php-fpm, 4 workers, 4 requests at once, {} faults each",
            Spread::of(self.faults_per_request.iter().copied()).show(0)
        );
        println!(
            "| tracing | requests/s | kept | requests per CPU second, tracer included | kept |"
        );
        println!("|---|---|---|---|---|");
        for (condition, series) in Tracing::ALL.iter().zip(&self.series) {
            if !condition.serves_pages() {
                continue;
            }
            println!(
                "| {} | {} | {} | {} | {} |",
                condition.name(),
                Spread::of(series.per_s.iter().copied()).show(0),
                ratio(&series.per_s, &base.per_s).show(3),
                Spread::of(series.per_cpu_s.iter().copied()).show(0),
                ratio(&series.per_cpu_s, &base.per_cpu_s).show(3),
            );
        }
        println!("\nNoise: no tracing in a round over no tracing in the round before:");
        for (what, values) in [
            ("4 KiB faults", &base.small_ns),
            ("THP faults", &base.huge_ns),
            ("requests/s", &base.per_s),
            ("requests per CPU second", &base.per_cpu_s),
        ] {
            let later = values.get(1..).unwrap_or_default();
            println!("- {what}: {}", ratio(later, values).show(3));
        }
    }

    /// Judges what was measured.
    pub fn judge(&self, goals: &mut Goals) {
        let [off, empty, _, rampage, bpftrace] = &self.series;
        let times = ratio(&rampage.small_ns, &off.small_ns);
        goals.judge(
            times.median <= 1.07,
            "4 KiB faults, rampage at most 1.07 times no tracing",
            &times.show(3),
        );
        let ours = added(&rampage.small_ns, &off.small_ns).median;
        let of_empty = ours / added(&empty.small_ns, &off.small_ns).median;
        let total = ratio(&rampage.small_ns, &empty.small_ns);
        goals.judge(
            total.median <= 1.5,
            "4 KiB faults, rampage at most 1.5 times an empty program, as a whole",
            &total.show(3),
        );
        goals.judge(
            of_empty <= 1.5,
            "4 KiB faults, rampage adds at most 1.5 times what an empty program adds",
            &format!("{of_empty:.2}"),
        );
        let of_bpftrace = ours / added(&bpftrace.small_ns, &off.small_ns).median;
        goals.judge(
            of_bpftrace <= 1.0 / 3.0,
            "4 KiB faults, rampage adds at most a third of what bpftrace adds",
            &format!("{of_bpftrace:.2}"),
        );
        // Throughput of a saturated pool is the inverse of its CPU time per request. The clock on
        // the wall counts other work on the host, too, so that it only tells when it is sure.
        let by_cpu = ratio(&rampage.per_cpu_s, &off.per_cpu_s);
        let by_wall = ratio(&rampage.per_s, &off.per_s);
        goals.judge(
            by_cpu.median >= 0.99 && by_wall.high >= 0.99,
            "php-fpm keeps at least 0.990",
            &format!("{} by CPU time, {} by the wall clock", by_cpu.show(3), by_wall.show(3)),
        );
    }
}

fn ratio(ours: &[f64], base: &[f64]) -> Spread {
    Spread::of_pairs(ours, base, |ours, base| ours / base)
}

fn added(ours: &[f64], base: &[f64]) -> Spread {
    Spread::of_pairs(ours, base, |ours, base| ours - base)
}
