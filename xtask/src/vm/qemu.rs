//! Boots one guest in QEMU and reads what it says, until it has finished, died, or gone silent.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::catalog::Run;
use super::image::{DISK_ID, INSIDE};
use super::plan::{self, Said};
use crate::exec::{Output, exec, line};

/// A guest says something at least that often: a test that hangs is ended, and reported, inside.
fn silence() -> Duration {
    Duration::from_secs(plan::test_seconds() + 60)
}

/// Lines of the console that are shown of a guest that died.
const LAST_LINES: usize = 40;
/// Room for what a guest hands back, MiB.
const OUT_MIB: u64 = 512;

/// What a guest is made of.
pub struct Machine<'a> {
    /// Kernel image.
    pub kernel: &'a Path,
    /// Disk with the root file system; never written to.
    pub disk: &'a Path,
    /// Where its console and what it hands back are put.
    pub folder: PathBuf,
    /// Hardware virtualisation instead of emulation.
    pub kvm: bool,
}

impl Machine<'_> {
    /// Runs a guest to its end; `hear` gets what it says. An error says how it died, with the last
    /// lines of its console.
    pub fn run(&self, run: &Run, mut hear: impl FnMut(Said)) -> anyhow::Result<()> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        }
        fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        let console = self.folder.join("console.log");
        let out = self.folder.join("out.img");
        let sparse = |path: &Path, mib: u64| {
            File::create(path)
                .and_then(|file| file.set_len(mib << 20))
                .with_context(|| path.display().to_string())
        };
        sparse(&out, OUT_MIB)?;
        let mut command = self.command(run, &out);
        if run.guest.swap_mib > 0 {
            let swap = self.folder.join("swap.img");
            sparse(&swap, u64::from(run.guest.swap_mib))?;
            command.args(disk(&swap, "swap", "cache=unsafe"));
        }
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let guest = spawned.spawn();
        let mut guest =
            Running(guest.with_context(|| format!("cannot start `{}`", line(&command)))?);
        let limit = Duration::from_secs(run.kernel.limit_seconds);
        let log = File::create(&console).with_context(|| console.display().to_string())?;
        let told = listen(&mut guest.0, limit, log, &mut hear);
        drop(guest);
        if let Err(error) = told {
            let last = last_lines(&console);
            bail!("{error:#}; the last of its console:\n{last}");
        }
        let mut unpack = Command::new("tar");
        unpack.arg("-xf").arg(&out).arg("-C").arg(&self.folder).arg("--no-same-owner");
        exec(&mut unpack, Output::Captured).context("what the guest handed back")?;
        fs::remove_file(&out).ok();
        fs::remove_file(self.folder.join("swap.img")).ok();
        Ok(())
    }

    /// QEMU, which the kernel kills when this thread ends, however it ends.
    fn command(&self, run: &Run, out: &Path) -> Command {
        let arch = run.kernel.arch;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        command.args(arch.qemu(self.kvm));
        command.args(["-smp", &run.guest.cpus.to_string()]);
        command.args(["-m", &run.guest.memory_mib.to_string()]);
        command.args(["-nic", "none", "-display", "none", "-monitor", "none", "-no-reboot"]);
        command.args(["-serial", "stdio"]);
        command.args(disk(self.disk, "root", "snapshot=on"));
        command.args(disk(out, "out", "cache=unsafe"));
        command.arg("-kernel").arg(self.kernel);
        let plan = run.name().replace('/', "-");
        command.arg("-append").arg(format!(
            "console={} loglevel=4 panic=-1 oops=panic root=PARTUUID={DISK_ID:08x}-01 rootwait \
             rw init={INSIDE}/tests/guest rampage_plan={plan} {}",
            arch.console(),
            run.guest.command_line
        ));
        command
    }
}

fn disk(path: &Path, serial: &str, options: &str) -> [String; 4] {
    [
        "-drive".to_owned(),
        format!("file={},if=none,id={serial},format=raw,{options}", path.display()),
        "-device".to_owned(),
        format!("nvme,drive={serial},serial={serial}"),
    ]
}

/// A child that does not outlive its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Reads until the guest has finished and QEMU has ended. What it says shares the serial port with
/// the kernel's console, which goes to `console`.
fn listen(
    guest: &mut Child,
    limit: Duration,
    mut console: impl Write,
    hear: &mut impl FnMut(Said),
) -> anyhow::Result<()> {
    let stdout = guest.stdout.take().context("no output of QEMU")?;
    let mut errors = guest.stderr.take().context("no errors of QEMU")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        let mut bytes = Vec::new();
        while stdout.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            let said = String::from_utf8_lossy(&bytes).trim().to_owned();
            bytes.clear();
            if !said.is_empty() && sender.send(said).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + limit;
    let mut finished = false;
    let mut running = String::from("its start");
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left.min(silence())) {
            Ok(said) => match serde_json::from_str(&said) {
                Ok(Said::Finished {}) => finished = true,
                Ok(Said::Broken(why)) => bail!("the guest could not be set up: {why}"),
                Ok(said) => {
                    if let Said::Begin(test) = &said {
                        running.clone_from(test);
                    }
                    hear(said);
                }
                Err(_) => writeln!(console, "{said}").context("writing the console's log")?,
            },
            Err(RecvTimeoutError::Timeout) if left <= silence() => {
                bail!("the guest took more than {} s, and was in {running}", limit.as_secs())
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!("the guest was silent for {} s in {running}", silence().as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if finished {
        return Ok(());
    }
    let status = guest.wait().context("waiting for QEMU")?;
    let mut text = String::new();
    errors.read_to_string(&mut text).ok();
    let text = text.trim();
    if status.success() {
        bail!("the guest died in {running}");
    }
    bail!("QEMU ended with {status}: {text}")
}

/// The end of the console, without what could move a terminal's cursor.
fn last_lines(console: &Path) -> String {
    let Ok(file) = File::open(console) else { return String::from("(it wrote nothing)") };
    let mut last = VecDeque::with_capacity(LAST_LINES);
    for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        let line = String::from_utf8_lossy(&line);
        last.push_back(line.chars().filter(|c| !c.is_control()).collect::<String>());
    }
    Vec::from(last).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear_script(script: &str, limit: Duration) -> (anyhow::Result<()>, Vec<String>) {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut guest = Running(shell.spawn().unwrap());
        let mut heard = Vec::new();
        let result = listen(&mut guest.0, limit, std::io::sink(), &mut |said| {
            heard.push(format!("{said:?}"))
        });
        (result, heard)
    }

    #[test]
    fn a_guest_that_finishes_is_heard() {
        let script = r#"echo SeaBIOS; echo '{"begin":"a::b"}'; echo '{"finished":{}}'"#;
        let (result, heard) = hear_script(script, Duration::from_secs(20));
        result.unwrap();
        assert_eq!(heard, [r#"Begin("a::b")"#]);
    }

    #[test]
    fn a_guest_that_dies_says_where() {
        let (result, _) =
            hear_script(r#"echo '{"begin":"a::b"}'; exit 0"#, Duration::from_secs(20));
        assert_eq!(result.unwrap_err().to_string(), "the guest died in a::b");
        let (result, _) = hear_script("echo no disk >&2; exit 1", Duration::from_secs(20));
        assert_eq!(result.unwrap_err().to_string(), "QEMU ended with exit status: 1: no disk");
    }

    #[test]
    fn a_guest_that_hangs_is_ended() {
        let started = Instant::now();
        let (result, _) = hear_script("exec sleep 60", Duration::from_millis(200));
        assert!(result.unwrap_err().to_string().contains("took more than"));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn the_console_is_cut_and_harmless() {
        let path = std::env::temp_dir().join(format!("rampage-console-{}", std::process::id()));
        let lines: Vec<String> = (0..100).map(|n| format!("\x1b[2Jline {n}\r")).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        let last = last_lines(&path);
        fs::remove_file(&path).unwrap();
        assert_eq!(last.lines().count(), LAST_LINES);
        assert!(last.ends_with("line 99") && !last.contains('\x1b') && !last.contains('\r'));
    }
}
