//! Commands: a program is run for each alert, one at a time, with JSON on its standard input.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rampage::kernel::inherit;
use rampage::settings::CommandAlert;
use rampage::text;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, sink};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::journal::word;
use crate::receiver::{Deliver, Outcome, Told};
use crate::webhook;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Between the friendly signal and the last one.
const GRACE: Duration = Duration::from_secs(2);

/// What is kept of standard error.
const MAX_STDERR_BYTES: u64 = 4096;

/// Longest value of a variable, bytes.
const MAX_VALUE_BYTES: usize = 4096;

/// A program with its arguments.
#[derive(Debug)]
pub struct Program {
    settings: CommandAlert,
}

impl Program {
    /// As the settings say.
    pub fn new(settings: CommandAlert) -> Self {
        Self { settings }
    }

    /// What is wrong with the settings.
    pub fn problem(settings: &CommandAlert) -> Option<String> {
        let Some(program) = settings.run.first() else {
            return Some("`run` names no program".to_owned());
        };
        if !program.starts_with('/') {
            return Some(format!("`{program}` is no whole path"));
        }
        match Path::new(program).metadata() {
            Err(error) => Some(format!("{program}: {error}")),
            Ok(file) if !file.is_file() || file.permissions().mode() & 0o111 == 0 => {
                Some(format!("{program} is not executable"))
            }
            Ok(_) => None,
        }
    }

    fn spawn(&self, told: &Told) -> io::Result<Child> {
        let [program, arguments @ ..] = &self.settings.run[..] else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if !program.starts_with('/') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no whole path"));
        }
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .envs(variables(told))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        inherit::unprotect(command.as_std_mut());
        command.spawn()
    }
}

impl Deliver for Program {
    async fn deliver(&mut self, told: &Told) -> Outcome {
        let input = match webhook::json(told) {
            Ok(input) => input,
            Err(error) => return Outcome::refused(error),
        };
        let mut child = match self.spawn(told) {
            Ok(child) => child,
            Err(error) => return Outcome::refused(error),
        };
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let mut stderr = child.stderr.take();
        let mut stdin = child.stdin.take();
        let mut said = Vec::new();
        let run = async {
            let feed = async {
                if let Some(mut stdin) = stdin.take() {
                    // A program need not read what it does not want.
                    let _ = stdin.write_all(&input).await;
                }
            };
            let listen = async {
                if let Some(stderr) = stderr.as_mut() {
                    let _ = stderr.take(MAX_STDERR_BYTES).read_to_end(&mut said).await;
                    // The rest is read, too: a full pipe would stop it.
                    let _ = copy(stderr, &mut sink()).await;
                }
            };
            // What it left running may hold its standard error open: only its own end counts.
            tokio::select! {
                ended = child.wait() => ended,
                ((), ()) = async { tokio::join!(feed, listen) } => child.wait().await,
            }
        };
        let ended = timeout(self.settings.timeout.get(), run).await;
        match ended {
            Ok(Ok(status)) if status.success() => Outcome::Delivered,
            Ok(Ok(status)) => {
                if let Some(stderr) = stderr.as_mut() {
                    let mut rest = stderr.take(MAX_STDERR_BYTES);
                    let _ = timeout(Duration::from_millis(50), rest.read_to_end(&mut said)).await;
                }
                Outcome::Refused { why: describe(status, &said) }
            }
            Ok(Err(error)) => Outcome::refused(error),
            Err(_) => {
                end(&mut child, group).await;
                let limit = self.settings.timeout;
                Outcome::Refused { why: format!("it ran for longer than {limit} and was ended") }
            }
        }
    }
}

/// Ends a program and what it started.
async fn end(child: &mut Child, group: Option<Pid>) {
    let signal = |signal| group.map(|group| kill_process_group(group, signal));
    signal(Signal::TERM);
    let _ = timeout(GRACE, child.wait()).await;
    signal(Signal::KILL);
    let _ = timeout(GRACE, child.wait()).await;
}

fn describe(status: ExitStatus, stderr: &[u8]) -> String {
    let stderr = String::from_utf8_lossy(stderr);
    match stderr.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{status}: {}", text::fit(line.trim(), 200)),
        None => status.to_string(),
    }
}

/// The same names as in the journal.
fn variables(told: &Told) -> Vec<(&'static str, String)> {
    let finding = &told.alert.finding;
    let mut variables = vec![
        ("RAMPAGE_HOST", told.about.host.clone()),
        ("RAMPAGE_KIND", word(&finding.kind)),
        ("RAMPAGE_STATE", word(&finding.state)),
        ("RAMPAGE_SEVERITY", word(&finding.severity)),
        ("RAMPAGE_FINDING_ID", finding.id.to_string()),
        ("RAMPAGE_SUMMARY", finding.summary.clone()),
    ];
    if let Some(subject) = &finding.subject {
        variables.push(("RAMPAGE_TGID", subject.tgid.to_string()));
        variables.push(("RAMPAGE_COMM", subject.comm.to_string()));
        variables.extend(subject.pool.as_ref().map(|pool| ("RAMPAGE_POOL", pool.to_string())));
        variables.extend(subject.cgroup.as_ref().map(|path| ("RAMPAGE_CGROUP", path.to_string())));
    }
    for (_, value) in &mut variables {
        value.truncate(value.floor_char_boundary(MAX_VALUE_BYTES));
        // No variable can hold one.
        value.retain(|c| c != '\0');
    }
    variables
}
