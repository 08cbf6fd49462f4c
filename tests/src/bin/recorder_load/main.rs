//! `recorder_load DIRECTORY STEPS` records 200 events a second for each step into the state directory, with a
//! tick each second, until its standard input ends. To be killed, stopped and disturbed by tests.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rampage::settings;
use tests::recording::Load;

const STEP: Duration = Duration::from_millis(10);

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = arguments.next().context("say where to: recorder_load DIRECTORY STEPS")?;
    let steps = arguments.next().and_then(|text| text.to_str()?.parse().ok());
    let steps: u64 = steps.context("say how much: recorder_load DIRECTORY STEPS")?;
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
        for _ in 0..steps {
            load.step()?;
        }
        if ticked.elapsed() >= Duration::from_secs(1) {
            ticked = Instant::now();
            load.tick()?;
        }
        thread::sleep(STEP);
    }
    load.finish().map(drop)
}
