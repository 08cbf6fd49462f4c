//! The demo's processes: this program again, in another role. A role tells `ready`, waits for a
//! line on standard input before it touches memory, and never outlives the demo.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;
use std::{fs, hint, thread};

use anyhow::{Context as _, bail};
use tokio::sync::oneshot;

use crate::cli::DemoRole;
use crate::kernel::protect;

const MIB: usize = 1 << 20;
/// What the bystander holds, MiB.
pub const BYSTANDER_MIB: usize = 100;
/// What the leaker takes, MiB a second.
pub const LEAK_MIB_PER_S: usize = 20;
/// The leaker ends itself here, MiB: it is to fill the demo's cgroup, not the host.
const LEAK_AT_MOST_MIB: usize = 300;
/// A role that does not answer within this time is broken.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

impl DemoRole {
    /// Name of the process.
    pub fn comm(self) -> &'static str {
        match self {
            Self::Bystander => "demo-bystander",
            Self::Leaker => "demo-leaker",
        }
    }

    /// The bystander volunteers to be killed; the leaker does not inherit a protection of ours.
    fn oom_score_adj(self) -> &'static str {
        match self {
            Self::Bystander => "1000",
            Self::Leaker => "0",
        }
    }
}

/// A running role; ended and reaped when dropped.
#[derive(Debug)]
pub struct Player {
    role: DemoRole,
    child: Child,
    commands: ChildStdin,
    answers: Option<BufReader<std::process::ChildStdout>>,
}

impl Player {
    /// Starts `role`; it touches no memory yet.
    pub fn start(role: DemoRole) -> anyhow::Result<Self> {
        let value = match role {
            DemoRole::Bystander => "bystander",
            DemoRole::Leaker => "leaker",
        };
        let mut child = Command::new("/proc/self/exe")
            .args(["demo", "--role", value])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", role.comm()))?;
        let (Some(commands), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{} has no pipes", role.comm());
        };
        Ok(Self { role, child, commands, answers: Some(BufReader::new(answers)) })
    }

    /// Its process id, in our namespace.
    pub fn tgid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it go on to its next act.
    pub fn go(&mut self) -> anyhow::Result<()> {
        writeln!(self.commands).with_context(|| format!("{} is gone", self.role.comm()))
    }

    /// Waits until it says `word`.
    pub async fn says(&mut self, word: &'static str) -> anyhow::Result<()> {
        let comm = self.role.comm();
        let Some(mut answers) = self.answers.take() else { bail!("{comm} was asked twice") };
        let (tell, told) = oneshot::channel();
        thread::Builder::new().stack_size(64 << 10).spawn(move || {
            let mut line = String::new();
            let read = answers.read_line(&mut line).map(|_| line);
            // Nobody waits any more when the demo was ended.
            let _ = tell.send((read, answers));
        })?;
        let told = tokio::time::timeout(ANSWER_WITHIN, told).await;
        let (line, answers) = told.with_context(|| format!("{comm} does not answer"))??;
        self.answers = Some(answers);
        match line.with_context(|| comm)?.trim_end() {
            said if said == word => Ok(()),
            said => bail!("{comm} ended early (it said {said:?}, not {word:?})"),
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // Already ended is fine; it is reaped in any case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays `role` until the demo ends it.
pub fn play(role: DemoRole) -> anyhow::Result<()> {
    protect::die_with_parent();
    fs::write("/proc/self/comm", role.comm()).context("/proc/self/comm")?;
    fs::write("/proc/self/oom_score_adj", role.oom_score_adj())
        .context("/proc/self/oom_score_adj")?;
    say("ready")?;
    if !may_go_on()? {
        return Ok(());
    }
    match role {
        DemoRole::Bystander => {
            let held = touched(BYSTANDER_MIB);
            say("holding")?;
            // Until the demo closes the pipe.
            while may_go_on()? {}
            hint::black_box(held);
        }
        DemoRole::Leaker => {
            let mut leak = Vec::new();
            while leak.len() < LEAK_AT_MOST_MIB {
                leak.push(touched(1));
                thread::sleep(Duration::from_secs(1) / LEAK_MIB_PER_S as u32);
            }
            hint::black_box(leak);
        }
    }
    Ok(())
}

/// Memory that is resident, not only reserved.
fn touched(mib: usize) -> Vec<u8> {
    hint::black_box(vec![0x5a; mib * MIB])
}

fn say(word: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{word}").and_then(|()| out.flush()).context("the demo is gone")
}

fn may_go_on() -> anyhow::Result<bool> {
    let mut line = String::new();
    Ok(io::stdin().lock().read_line(&mut line).context("the demo is gone")? > 0)
}
