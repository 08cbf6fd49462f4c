//! `recorder_load DIRECTORY` records some 4,000 events a second into the state directory, with a tick each
//! second, until its standard input ends. To be killed, stopped and disturbed by tests.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rampage::settings;
use tests::recording::Load;

const STEP: Duration = Duration::from_millis(10);
const STEPS: u64 = 20;

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).context("say where to: recorder_load DIRECTORY")?;
    let settings = settings::Recorder {
        directory: directory.into(),
        segment_size: settings::Size::bytes(4 << 20),
        segment_age: settings::Span::from_secs(2),
        max_size: settings::Size::bytes(64 << 20),
        ..settings::Recorder::default()
    };
    let mut load = Load::start(&settings)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        over.store(true, Ordering::Release);
    });
    let mut ticked = Instant::now();
    while !is_over.load(Ordering::Acquire) {
        for _ in 0..STEPS {
            load.step()?;
        }
        if ticked.elapsed() >= Duration::from_secs(1) {
            ticked = Instant::now();
            load.tick()?;
        }
        thread::sleep(STEP);
    }
    load.finish()
}
