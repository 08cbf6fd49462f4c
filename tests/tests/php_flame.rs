//! `rampage php TGID --flame FILE`: the shares of growth are those of the code that grew, the file
//! is there whatever ends the recording, also where the kernel programs cannot be loaded, and what
//! cannot be done fails before it.

mod binary;

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::cgroup::MemoryCgroup;
use tests::clock;
use tests::php::{Manager, PhpFpm};

const LIMIT_BYTES: u64 = 384 << 20;
const URI: &[u8] = b"/grow;it?user=anna";

const FLAME: &str = include_str!("../php/look/flame.php");
const WAITS: &str = include_str!("../php/look/waits.php");

/// Number of the line of a script with a mark.
fn line(text: &str, mark: &str) -> Result<usize> {
    let at = text.lines().position(|line| line.ends_with(mark)).context("no line with the mark")?;
    Ok(at + 1)
}

/// A recording under way; killed when dropped.
struct Recording(Child);

impl Recording {
    fn start(worker: u32, file: &Path, more: &[&str]) -> Result<Self> {
        Self::start_as(binary::rampage(), worker, file, more)
    }

    fn start_as(mut command: Command, worker: u32, file: &Path, more: &[&str]) -> Result<Self> {
        command.args(["php", &worker.to_string(), "--flame"]).arg(file).args(more);
        Ok(Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?))
    }

    /// Standard output, once it has ended well.
    fn said(mut self) -> Result<String> {
        let (mut said, mut problems) = (String::new(), String::new());
        self.0.stdout.take().context("stdout")?.read_to_string(&mut said)?;
        self.0.stderr.take().context("stderr")?.read_to_string(&mut problems)?;
        let status = self.0.wait()?;
        ensure!(status.success() && problems.is_empty(), "{status}: {problems}");
        Ok(said)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Stacks and their bytes.
fn folded(file: &Path) -> Result<Vec<(Vec<String>, u64)>> {
    let text = fs::read_to_string(file)?;
    let parse = |line: &str| {
        let (stack, bytes) = line.rsplit_once(' ').context("no count")?;
        Ok((stack.split(';').map(str::to_owned).collect(), bytes.parse()?))
    };
    text.lines().map(parse).collect()
}

/// The part of all growth that is in stacks with a frame that is wanted.
fn share(stacks: &[(Vec<String>, u64)], is_wanted: impl Fn(&str) -> bool) -> f64 {
    let all: u64 = stacks.iter().map(|(_, bytes)| bytes).sum();
    let with = stacks.iter().filter(|(stack, _)| stack.iter().any(|frame| is_wanted(frame)));
    with.map(|(_, bytes)| bytes).sum::<u64>() as f64 / all as f64
}

/// Waits until a recording has begun.
fn draft(folder: &Path) -> Result<()> {
    clock::wait_for("the draft", Duration::from_secs(10), || {
        Ok(fs::read_dir(folder)?.next().map(|_| ()))
    })
}

fn send(tgid: u32, signal: i32) {
    // SAFETY: kill has no memory effects; the process is a child of this test, or of its pool.
    unsafe { libc::kill(tgid.cast_signed(), signal) };
}

#[test]
fn shares_are_those_of_the_code_that_grew() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cgroup = MemoryCgroup::new("flame", LIMIT_BYTES)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(1))?;
    let (request, worker) = fpm.ask_for_worker("GET", URI, "flame.php")?;
    let (text, drawing) = (folder.path().join("a.folded"), folder.path().join("a.svg"));
    let first = Recording::start(worker, &text, &["--duration", "8s"])?;
    let second = Recording::start(worker, &drawing, &["--duration", "2s", "--show-query"])?;
    let (said_of_drawing, said_of_text) = (second.said()?, first.said()?);
    drop(request);

    let stacks = folded(&text)?;
    let script = fpm.script("flame.php").to_string_lossy().into_owned();
    let all: u64 = stacks.iter().map(|(_, bytes)| bytes).sum();
    let share = |frame: &str| share(&stacks, |one| one == frame);
    let wide = share(&format!("wide  {script}:{}", line(FLAME, "// WIDE")?));
    let narrow = share(&format!("Narrow::leak  {script}:{}", line(FLAME, "// NARROW")?));
    let caller = share(&format!("{script}:{}", line(FLAME, "// CALL")?));
    let root = share("GET /grow:it?user=…");
    let shares = format!("wide {wide:.3} narrow {narrow:.3} caller {caller:.3} root {root:.3}");
    println!("{shares}; {said_of_text}");
    ensure!((wide - 0.8).abs() < 0.06 && (narrow - 0.2).abs() < 0.06, "{shares}: {stacks:#?}");
    ensure!((caller - 0.8).abs() < 0.06 && root > 0.98, "{shares}: {stacks:#?}");
    ensure!(all > 16 << 20, "{all} bytes: {said_of_text}");
    for (stack, _) in &stacks {
        let is_rooted = stack[0].starts_with("GET /grow:it")
            || ["(not sampled)", "(not read: names of its functions)"].contains(&&*stack[0]);
        ensure!(is_rooted, "{stack:?}");
    }
    let head = format!("worker {worker} grew ");
    ensure!(said_of_text.starts_with(&head) && said_of_text.contains("in 8.0 s; "));
    ensure!(said_of_text.ends_with(&format!("stacks, in {}\n", text.display())), "{said_of_text}");
    ensure!(said_of_drawing.starts_with(&head), "{said_of_drawing}");

    let svg = fs::read_to_string(&drawing)?;
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(&svg, options)?;
    let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
    let has = |wanted: &str| texts.iter().any(|text| text.contains(wanted));
    ensure!(has("GET /grow:it?user=anna (") && has(" bytes grown, "), "{texts:?}");
    ensure!(has(&format!("wide  {script}:{} (", line(FLAME, "// WIDE")?)), "{texts:?}");
    ensure!(has(&format!("PHP worker {worker}: bytes grown in 2.0 s")), "{texts:?}");
    ensure!(has(" samples; ") && !has(LATE), "{texts:?}");
    ensure!(fs::read_dir(folder.path())?.count() == 2, "a draft is left");
    Ok(())
}

/// What a recording says that only looked.
const LATE: &str =
    "places are those seen up to 15 ms after the growth: this process may not load BPF";

/// A function that waits is not taken for the one that grows meanwhile.
#[test]
fn waiting_is_not_growing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cgroup = MemoryCgroup::new("flame", LIMIT_BYTES)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(1))?;
    let (request, worker) = fpm.ask_for_worker("GET", URI, "waits.php")?;
    let file = folder.path().join("a.folded");
    let said = Recording::start(worker, &file, &["--duration", "5s"])?.said()?;
    drop(request);
    println!("{said}");
    let stacks = folded(&file)?;
    let script = fpm.script("waits.php").to_string_lossy().into_owned();
    let keep = format!("keep  {script}:{}", line(WAITS, "// LEAK")?);
    ensure!(share(&stacks, |frame| frame == keep) >= 0.95, "{stacks:#?}");
    ensure!(share(&stacks, |frame| frame.starts_with("fetch  ")) == 0.0, "{stacks:#?}");
    Ok(())
}

/// Requests of some 60 ms each, in turns: growth is not given to the request before or after. What
/// they grow after their last sample is seen when they end.
#[test]
fn growth_is_given_to_its_own_request() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cgroup = MemoryCgroup::new("flame", LIMIT_BYTES)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(1))?;
    let worker = fpm.workers()?[0];
    let file = folder.path().join("a.folded");
    let recording = Recording::start(worker, &file, &[])?;
    draft(folder.path())?;
    for _ in 0..30 {
        for uri in [&b"/big"[..], b"/small"] {
            let request = fpm.ask("GET", uri, "turns.php")?;
            request.set_timeout(clock::patient(Duration::from_secs(10)))?;
            ensure!(request.finish()?.body == b"done", "{}", fpm.log());
        }
    }
    send(recording.0.id(), libc::SIGINT);
    let said = recording.said()?;
    let stacks = folded(&file)?;
    println!("{said}{stacks:#?}");
    let of = |root: &str, function: &str| -> u64 {
        let is_wanted = |stack: &[String]| {
            stack[0] == root && stack.iter().any(|frame| frame.starts_with(function))
        };
        stacks.iter().filter(|(stack, _)| is_wanted(stack)).map(|(_, bytes)| bytes).sum()
    };
    let (big, small) = (of("GET /big", "big  "), of("GET /small", "small  "));
    let wrong = of("GET /big", "small  ") + of("GET /small", "big  ");
    ensure!(wrong * 50 < big + small, "{wrong}: {stacks:#?}");
    ensure!(big > small * 2 && small > 100 << 20, "{big}, {small}: {stacks:#?}");
    ensure!(share(&stacks, |frame| frame.starts_with('(')) < 0.25, "{stacks:#?}");
    Ok(())
}

/// `rampage` as a user runs it who may read other processes, but not load kernel programs.
fn rampage_without_bpf() -> Command {
    const SYS_ADMIN: libc::c_ulong = 21;
    const PERFMON: libc::c_ulong = 38;
    const BPF: libc::c_ulong = 39;
    let give_up = || {
        for capability in [SYS_ADMIN, PERFMON, BPF] {
            // SAFETY: prctl(PR_CAPBSET_DROP) takes integers only.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    let mut command = binary::rampage();
    // SAFETY: the closure only makes system calls, and allocates nothing.
    unsafe { command.pre_exec(give_up) };
    command
}

#[test]
fn without_kernel_programs_it_looks_and_says_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cgroup = MemoryCgroup::new("flame", LIMIT_BYTES)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(1))?;
    let (request, worker) = fpm.ask_for_worker("GET", URI, "flame.php")?;
    let (text, drawing) = (folder.path().join("a.folded"), folder.path().join("a.svg"));
    let start = |file: &Path| {
        Recording::start_as(rampage_without_bpf(), worker, file, &["--duration", "4s"])
    };
    let (first, second) = (start(&text)?, start(&drawing)?);
    let (said, said_of_drawing) = (first.said()?, second.said()?);
    drop(request);
    println!("{said}");
    for said in [&said, &said_of_drawing] {
        let lines: Vec<&str> = said.lines().collect();
        ensure!(lines.len() == 2 && lines[1].starts_with(LATE), "{said}");
    }
    let svg = fs::read_to_string(&drawing)?;
    ensure!(svg.contains(LATE) && svg.contains(" looks; "), "{svg}");
    let stacks = folded(&text)?;
    let wide = share(&stacks, |frame| frame.starts_with("wide  "));
    let root = share(&stacks, |frame| frame == "GET /grow:it?user=…");
    ensure!((wide - 0.8).abs() < 0.15 && root > 0.95, "{wide}, {root}: {stacks:#?}");
    Ok(())
}

#[test]
fn a_worker_that_ends_leaves_its_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cgroup = MemoryCgroup::new("flame", LIMIT_BYTES)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(1))?;
    let (request, worker) = fpm.ask_for_worker("GET", URI, "function.php")?;
    let file = folder.path().join("a.folded");
    let recording = Recording::start(worker, &file, &[])?;
    draft(folder.path())?;
    std::thread::sleep(clock::patient(Duration::from_secs(2)));
    send(worker, libc::SIGKILL);
    let said = recording.said()?;
    drop(request);
    ensure!(said.contains(" s, until it ended; "), "{said}");
    let stacks = folded(&file)?;
    let (largest, bytes) = stacks.first().context("no stack")?;
    ensure!(largest.iter().any(|frame| frame.starts_with("hoard  ")), "{stacks:?}");
    ensure!(*bytes > 1 << 20, "{stacks:?}");
    Ok(())
}

#[test]
fn a_worker_that_does_not_grow_has_no_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cgroup = MemoryCgroup::new("flame", LIMIT_BYTES)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(1))?;
    let worker = fpm.workers()?[0];
    let file = folder.path().join("a.svg");
    let recording = Recording::start(worker, &file, &[])?;
    draft(folder.path())?;
    std::thread::sleep(Duration::from_millis(500));
    send(recording.0.id(), libc::SIGINT);
    let said = recording.said()?;
    ensure!(said.starts_with(&format!("worker {worker} did not grow in ")), "{said}");
    ensure!(said.ends_with("a.svg was not written\n"), "{said}");
    ensure!(fs::read_dir(folder.path())?.next().is_none(), "a file is left");
    Ok(())
}

#[test]
fn what_cannot_be_done_fails_before_it_begins() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cgroup = MemoryCgroup::new("flame", LIMIT_BYTES)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(1))?;
    let worker = fpm.workers()?[0].to_string();
    let inside = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (good, text, gone) = (inside("a.svg"), inside("a.txt"), inside("gone/a.svg"));
    let cases: [(&[&str], &str); 6] = [
        (&[&worker, "--flame", &text], ".svg or .folded"),
        (&["--flame", &good], "<TGID>"),
        (&[&worker, "--flame", &good, "--json"], "cannot be used with"),
        (&[&worker, "--duration", "1s"], "--flame <FILE>"),
        (&[&worker, "--flame", &gone], "choose a file in a folder that exists"),
        (&["1", "--flame", &good], "is not PHP"),
    ];
    binary::run(binary::rampage().arg("--version"));
    let started = Instant::now();
    for (arguments, wanted) in cases {
        let (code, stdout, stderr) = binary::run(binary::rampage().arg("php").args(arguments));
        ensure!(code == 2 && stdout.is_empty(), "{arguments:?}: {code}, {stdout}{stderr}");
        ensure!(stderr.contains(wanted), "{arguments:?}: {stderr}");
    }
    ensure!(started.elapsed() < clock::patient(Duration::from_secs(5)), "one of them recorded");
    ensure!(fs::read_dir(folder.path())?.next().is_none(), "a file is left");
    Ok(())
}
