//! Requests to a real php-fpm pool, as many at once as it has workers.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::cgroup::MemoryCgroup;
use tests::php::{Manager, PhpFpm};

use crate::faults::process_cpu_ns;

const WORKERS: u32 = 4;
const LIMIT_BYTES: u64 = 512 << 20;
const SCRIPT: &str = "page.php";

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

    /// Keeps all workers busy for this long.
    pub fn run(&self, time: Duration) -> Result<Served> {
        let cpu = self.cpu_ns()?;
        let requests = AtomicU64::new(0);
        let start = Instant::now();
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..WORKERS)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        while start.elapsed() < time {
                            let answer = self.fpm.get(SCRIPT, "")?;
                            ensure!(answer.body.ends_with(b" -->"), "php: {:?}", answer.errors);
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
        })
    }

    fn cpu_ns(&self) -> Result<u64> {
        self.workers.iter().map(|&pid| process_cpu_ns(pid)).sum()
    }
}
