//! Requests to a real php-fpm pool, as many at once as it has workers. Pages differ in size, so that
//! PHP's allocator takes and returns memory as it does on a site; a page that is always the same is
//! served from kept memory without any fault.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::cgroup::MemoryCgroup;
use tests::php::{Manager, PhpFpm};

use crate::faults::process_cpu_ns;

const WORKERS: u32 = 4;
const LIMIT_BYTES: u64 = 512 << 20;
const SCRIPT: &str = "page.php";
/// Sizes of pages, in turn: 0.7 to 4.9 MiB, 2.8 MiB on average.
const ROWS: [u32; 7] = [4000, 1000, 6000, 3000, 7000, 2000, 5000];

/// The pool.
pub struct Pool {
    fpm: PhpFpm,
    workers: Vec<u32>,
    _cgroup: MemoryCgroup,
}

/// One round.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// Requests each second.
    pub per_s: f64,
    /// CPU time of the pool in the round, ns.
    pub cpu_ns: u64,
    /// Requests in the round.
    pub requests: u64,
    /// Page faults of the pool in the round.
    pub faults: u64,
}

impl Pool {
    /// Starts it, and asks until opcache and allocators are warm.
    pub fn start() -> Result<Self> {
        let cgroup = MemoryCgroup::new("bench-php", LIMIT_BYTES)?;
        let fpm = PhpFpm::start(&cgroup, Manager::Static(WORKERS))?;
        fs::write(fpm.script(SCRIPT), include_str!("../../../php/page.php"))?;
        let workers = fpm.workers()?;
        ensure!(workers.len() == WORKERS as usize, "{} workers", workers.len());
        let pool = Self { fpm, workers, _cgroup: cgroup };
        pool.run(Duration::from_secs(1))?;
        Ok(pool)
    }

    /// Keeps all workers busy with pages for this long.
    pub fn run(&self, time: Duration) -> Result<Served> {
        self.serve(time, SCRIPT, &ROWS)
    }

    /// The same with the smallest requests that there are.
    pub fn run_small(&self, time: Duration) -> Result<Served> {
        self.serve(time, "ping.php", &[0])
    }

    fn serve(&self, time: Duration, script: &str, rows: &[u32]) -> Result<Served> {
        let (cpu, faults) = (self.cpu_ns()?, self.faults()?);
        let requests = AtomicU64::new(0);
        let start = Instant::now();
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..WORKERS as usize)
                .map(|client| {
                    let requests = &requests;
                    scope.spawn(move || -> Result<()> {
                        let mut rows = rows.iter().cycle().skip(client);
                        while start.elapsed() < time {
                            let query = format!("rows={}", rows.next().unwrap_or(&0));
                            let answer = self.fpm.get(script, &query)?;
                            let whole =
                                [&b" -->"[..], b"pong"].map(|end| answer.body.ends_with(end));
                            ensure!(whole.contains(&true), "php: {:?}", answer.errors);
                            requests.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(())
                    })
                })
                .collect();
            for client in clients {
                client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            }
            anyhow::Ok(())
        })?;
        let requests = requests.into_inner();
        ensure!(requests > 0, "php-fpm answered no request: {}", self.fpm.log());
        Ok(Served {
            per_s: requests as f64 / start.elapsed().as_secs_f64(),
            cpu_ns: self.cpu_ns()? - cpu,
            requests,
            faults: self.faults()? - faults,
        })
    }

    /// Process ids of its workers.
    pub fn workers(&self) -> &[u32] {
        &self.workers
    }

    fn cpu_ns(&self) -> Result<u64> {
        self.workers.iter().map(|&pid| process_cpu_ns(pid)).sum()
    }

    fn faults(&self) -> Result<u64> {
        self.workers.iter().map(|&pid| minor_faults(pid)).sum()
    }
}

fn minor_faults(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // minflt is the eighth field after the name, which ends at the last `)`.
    let field = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(7));
    field.context("minflt")?.parse().context("minflt")
}
