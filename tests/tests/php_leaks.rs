//! Every kind of PHP code that leaks, on every PHP that is at hand, with opcache and without: each
//! look names the request, the script, and the function and line that leak, and so does the finding,
//! while the request runs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rampage::event::{Event, Evidence, FindingKind, Spot};
use rampage::php::{Activity, Frame, Look, LookOptions, Looker};
use tests::cgroup::MemoryCgroup;
use tests::debian_php::{self, Release};
use tests::php::{Manager, PhpFpm, Setup};
use tests::trace::Line;
use tests::tracer::Tracer;

const LIMIT_BYTES: u64 = 160 << 20;
/// Looks at each row of the table.
const LOOKS: usize = 40;
/// The finding comes within this time.
const SOON: Duration = Duration::from_secs(20);
/// At least so much of the growth is given to the leak: PHP itself grows a little beside it.
const SHARE: f64 = 0.9;

/// One way to leak.
struct Row {
    script: &'static str,
    method: &'static str,
    uri: &'static str,
    shown: &'static str,
    /// The function that leaks (None = a file's code), and the file with the line `// LEAK`.
    leak: (Option<&'static str>, &'static str),
    /// What is below it on the stack, and the file with the line `// CALL`.
    caller: Option<(Option<&'static str>, &'static str)>,
    /// The C function that must be the innermost frame in most looks.
    internal: Option<&'static str>,
    /// Needs fibers (8.1).
    fiber: bool,
}

const ROW: Row = Row {
    script: "",
    method: "GET",
    uri: "",
    shown: "",
    leak: (None, ""),
    caller: None,
    internal: None,
    fiber: false,
};

const TABLE: [Row; 7] = [
    Row {
        script: "function.php",
        uri: "/function.php?user=anna&token=s3cret",
        shown: "/function.php?user=…&token=…",
        leak: (Some("hoard"), "function.php"),
        caller: Some((None, "function.php")),
        ..ROW
    },
    Row {
        script: "generator.php",
        uri: "/import/42",
        shown: "/import/42",
        leak: (Some("Importer::rows"), "generator.php"),
        caller: Some((Some("Importer::load"), "generator.php")),
        ..ROW
    },
    Row {
        script: "recursion.php",
        uri: "/tree",
        shown: "/tree",
        leak: (Some("descend"), "recursion.php"),
        ..ROW
    },
    Row {
        script: "include.php",
        method: "PUT",
        uri: "/include",
        shown: "/include",
        leak: (None, "more/included.php"),
        caller: Some((None, "include.php")),
        ..ROW
    },
    Row {
        script: "preg_replace.php",
        uri: "/clean?",
        shown: "/clean?",
        leak: (Some("clean"), "preg_replace.php"),
        caller: Some((None, "preg_replace.php")),
        internal: Some("preg_replace"),
        ..ROW
    },
    Row {
        script: "index.php",
        method: "POST",
        uri: "/orders/17/export?format=csv",
        shown: "/orders/17/export?format=…",
        leak: (Some("App\\Controller\\Export::App\\Controller\\{closure"), "more/Export.php"),
        ..ROW
    },
    Row {
        script: "fiber.php",
        uri: "/fiber",
        shown: "/fiber",
        leak: (Some("task"), "fiber.php"),
        caller: Some((Some("Fiber::start"), "fiber.php")),
        fiber: true,
        ..ROW
    },
];

/// Number of the line with a mark.
fn line(file: &str, mark: &str) -> Result<u32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("php/look").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let at = text.lines().position(|line| line.ends_with(mark)).context("no line with the mark")?;
    Ok(u32::try_from(at)? + 1)
}

/// Every row, in one pool.
fn every_leak(release: Option<Release>, opcache: bool) -> Result<()> {
    let php = release.map_or("8.2", |release| release.php);
    let cgroup = MemoryCgroup::new("leaks", LIMIT_BYTES)?;
    let setup = Setup { release, opcache, ..Setup::system(Manager::Static(2)) };
    let fpm = PhpFpm::start_as(&cgroup, &setup)?;
    let mut looker = Looker::new();
    looker.prepare(fpm.master())?;
    let tracer = Tracer::watch("")?;
    for row in TABLE.iter().filter(|row| !row.fiber || php != "7.4") {
        let (request, worker) = fpm
            .ask_for_worker(row.method, row.uri.as_bytes(), row.script)
            .with_context(|| format!("{php} {}: {}", row.script, fpm.log()))?;
        std::thread::sleep(Duration::from_millis(100));
        let (mut leaks, mut inside) = (0, 0);
        for _ in 0..LOOKS {
            let options = LookOptions { timeout: Duration::from_secs(2), ..LookOptions::default() };
            let look = looker.look(worker, &options);
            let leak = judge(&fpm, row, &look)
                .with_context(|| format!("{php}, opcache {opcache}, {}: {look:#?}", row.script))?;
            leaks += usize::from(leak);
            let innermost = look.stack.first().and_then(|frame| frame.function.clone());
            inside += usize::from(innermost.as_deref() == row.internal);
            std::thread::sleep(Duration::from_millis(3));
        }
        // Only a generator is left now and then.
        let least = if row.script == "generator.php" { LOOKS * 3 / 4 } else { LOOKS };
        ensure!(leaks >= least, "{php} {}: {leaks} looks met the leak", row.script);
        // Since 8.4 PHP calls preg_replace and some others without a frame.
        let framed = row.internal.is_some() && php != "8.4";
        ensure!(!framed || inside > LOOKS / 2, "{}: {inside}", row.script);
        found(&tracer, &fpm, row, worker)
            .with_context(|| format!("{php}, opcache {opcache}, {}", row.script))?;
        // SAFETY: kill has no memory effects; the worker is of this test's own pool.
        unsafe { libc::kill(worker.cast_signed(), libc::SIGKILL) };
        drop(request);
    }
    ensure!(cgroup.oom_kills()? == 0, "a worker was killed before its finding");
    tracer.finish()?;
    Ok(())
}

fn is_runaway(line: &Line, worker: u32) -> bool {
    matches!(&line.event, Event::Finding(finding) if finding.kind == FindingKind::Runaway
        && finding.subject.as_ref().is_some_and(|subject| subject.tgid == worker))
}

/// The finding about the worker, while its request runs: pool, request, script, code.
fn found(tracer: &Tracer, fpm: &PhpFpm, row: &Row, worker: u32) -> Result<()> {
    let line = tracer.wait_for("the finding", SOON, |line| is_runaway(line, worker))?;
    let Event::Finding(finding) = &line.event else { bail!("{line:?}") };
    let Evidence::Runaway(runaway) = &finding.evidence else { bail!("{finding:?}") };
    println!("{}", finding.summary);
    let subject = finding.subject.as_ref().context("subject")?;
    ensure!(subject.pool.as_deref() == Some("www"), "{finding:#?}");
    let request = runaway.request.as_ref().with_context(|| format!("{finding:#?}"))?;
    ensure!(request.method.as_deref() == Some(row.method), "{finding:#?}");
    ensure!(request.uri.as_deref() == Some(row.shown), "{finding:#?}");
    let script = fpm.script(row.script).to_string_lossy().into_owned();
    ensure!(request.script.as_deref() == Some(&*script), "{finding:#?}");
    ensure!(runaway.php.context("no memory")?.limit_bytes == Some(8192 << 20), "{finding:#?}");
    let worst = runaway.php_growth.first().context("no growth by function")?;
    ensure!(
        row.is_leak(fpm, worst.function.as_deref(), worst.file.as_deref())
            && worst.line == Some(self::line(row.leak.1, "// LEAK")?),
        "{worst:?}"
    );
    ensure!(worst.share >= SHARE, "{worst:?}");
    let named = finding.summary.contains(row.shown) && finding.summary.contains(&*name(worst));
    ensure!(named, "{}", finding.summary);
    Ok(())
}

/// How a summary names a place.
fn name(spot: &Spot) -> String {
    let file = spot.file.as_deref().and_then(|file| file.rsplit('/').next()).unwrap_or("?");
    format!("line {} of {file}", spot.line.unwrap_or(0))
}

impl Row {
    /// Whether this is the function and file that leak.
    fn is_leak(&self, fpm: &PhpFpm, function: Option<&str>, file: Option<&str>) -> bool {
        let (wanted, wanted_file) = self.leak;
        let same = match (wanted, function) {
            // Since 8.4 a closure's name says where it is.
            (Some(wanted), Some(name)) if wanted.ends_with("{closure") => {
                name.starts_with("App\\Controller\\Export::") && name.contains("{closure")
            }
            (wanted, name) => wanted == name,
        };
        let path = fpm.script(wanted_file).to_string_lossy().into_owned();
        same && file == Some(&*path)
    }
}

/// Fails where a look is wrong; tells whether it met the leak.
fn judge(fpm: &PhpFpm, row: &Row, look: &Look) -> Result<bool> {
    let script = |name: &str| fpm.script(name).to_string_lossy().into_owned();
    ensure!(look.missing.is_empty(), "something is missing");
    ensure!(look.sapi.as_deref() == Some("fpm") && look.activity == Activity::Request);
    let request = look.request.as_ref().context("no request")?;
    ensure!(request.method.as_deref() == Some(row.method), "method");
    ensure!(request.uri.as_deref() == Some(row.shown) && !request.uri_rewritten, "URI");
    ensure!(request.host.as_deref() == Some("shop.example"), "host");
    ensure!(request.client.is_none(), "client");
    ensure!(request.script.as_deref() == Some(&*script(row.script)), "script");
    let elapsed_ns = request.elapsed_ns.context("no time")?;
    ensure!((50_000_000..60_000_000_000).contains(&elapsed_ns), "time");
    let memory = look.memory.context("no memory")?;
    ensure!(memory.limit_bytes == Some(8192 << 20), "limit");
    ensure!(memory.used_bytes > 300_000 && memory.real_bytes >= 2 << 20, "memory");

    let leak_line = line(row.leak.1, "// LEAK")?;
    let is_leak = |frame: &Frame| {
        row.is_leak(fpm, frame.name().as_deref(), frame.file.as_deref())
            && frame.line == Some(leak_line)
    };
    let Some(leak) = look.stack.iter().position(is_leak) else {
        ensure!(row.script == "generator.php", "the leak is not on the stack");
        return Ok(false);
    };
    ensure!(look.stack[..leak].iter().all(|frame| frame.file.is_none()), "inner frames");
    if let Some((function, file)) = row.caller {
        let outer = &look.stack[leak + 1..];
        ensure!(outer.first().context("no caller")?.name().as_deref() == function, "caller");
        let place = outer.iter().find(|frame| frame.file.is_some()).context("no place")?;
        ensure!(place.file.as_deref() == Some(&*script(file)), "caller's file");
        ensure!(place.line == Some(line(file, "// CALL")?), "caller's line");
    }
    Ok(true)
}

#[test]
fn in_8_2_with_opcache() -> Result<()> {
    every_leak(None, true)
}

#[test]
fn in_8_2_without_opcache() -> Result<()> {
    every_leak(None, false)
}

#[test]
fn in_7_4() -> Result<()> {
    every_leak(Some(debian_php::PHP_7_4), true)?;
    every_leak(Some(debian_php::PHP_7_4), false)
}

#[test]
fn in_8_4() -> Result<()> {
    every_leak(Some(debian_php::PHP_8_4), true)?;
    every_leak(Some(debian_php::PHP_8_4), false)
}
