//! How workers are printed: a table of all, sentences for one.

use std::io::{self, Write};

use super::{Silent, Worker};
use crate::php::{Activity, Frame, Memory, Role};
use crate::text::{bytes, columns, fit, printable, seconds};

/// Widest text of a cell that is not the last.
const CELL_COLUMNS: usize = 24;

/// A line for each worker, the innermost PHP line below it.
pub fn all(out: &mut impl Write, workers: &[Worker], silent: &Silent) -> io::Result<()> {
    if workers.is_empty() && silence(silent).is_none() {
        return writeln!(out, "No PHP worker runs here.");
    }
    let heads = ["TGID", "POOL", "PHP", "ANON+SWAP", "PHP TOOK", "LIMIT", "FOR", "DOES"];
    let rows: Vec<[String; 8]> = workers.iter().map(row).collect();
    let mut widths = heads.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = columns(cell).max(*width);
        }
    }
    line(out, &heads.map(str::to_owned), &widths)?;
    for (worker, row) in workers.iter().zip(&rows) {
        line(out, row, &widths)?;
        let indent: usize = widths[..7].iter().map(|width| width + 2).sum();
        if let Some(at) = innermost(&worker.look.stack) {
            writeln!(out, "{:indent$}in {at}", "")?;
        }
        for missing in &worker.look.missing {
            writeln!(out, "{:indent$}({})", "", printable(&missing.to_string()))?;
        }
    }
    match silence(silent) {
        Some(line) => writeln!(out, "{line}"),
        None => Ok(()),
    }
}

/// Who did not answer.
pub fn silence(silent: &Silent) -> Option<String> {
    let names: Vec<String> = silent.held_up.iter().map(u32::to_string).collect();
    let held_up = match &names[..] {
        [] => None,
        names => Some(format!("No answer in time from {}.", names.join(", "))),
    };
    let not_reached = match silent.not_reached {
        0 => None,
        more => Some(format!("No time was left to look whether {more} more processes are PHP.")),
    };
    let lines: Vec<String> = held_up.into_iter().chain(not_reached).collect();
    (!lines.is_empty()).then(|| lines.join(" "))
}

fn line(out: &mut impl Write, cells: &[String; 8], widths: &[usize; 8]) -> io::Result<()> {
    let mut text = String::new();
    for (at, cell) in cells.iter().enumerate() {
        let pad = widths[at].saturating_sub(columns(cell));
        // Numbers stand to the right, names to the left.
        let right = matches!(at, 0 | 3..=6);
        let (before, after) = if right { (pad, 0) } else { (0, pad) };
        text.push_str(&" ".repeat(before));
        text.push_str(cell);
        text.push_str(&" ".repeat(after + 2));
    }
    writeln!(out, "{}", text.trim_end())
}

fn row(worker: &Worker) -> [String; 8] {
    let look = &worker.look;
    let cell = |text: &str| fit(&printable(text), CELL_COLUMNS).into_owned();
    let unknown = || "?".to_owned();
    let elapsed = look.request.as_ref().and_then(|request| request.elapsed_ns);
    [
        look.tgid.to_string(),
        match (&look.pool, &worker.who.role) {
            (Some(pool), _) => cell(pool),
            (None, Role::Pool(None)) => unknown(),
            _ => look.sapi.as_deref().map_or_else(unknown, cell),
        },
        look.version.as_deref().map_or_else(unknown, cell),
        bytes(worker.anon_bytes + worker.swap_bytes),
        look.memory.map_or_else(unknown, |memory| bytes(memory.real_bytes)),
        look.memory.map_or_else(unknown, limit),
        elapsed.map_or_else(String::new, |ns| seconds(ns as f64 / 1e9)),
        does(worker),
    ]
}

/// `GET /orders/17`, `idle`, `artisan queue:work`.
fn does(worker: &Worker) -> String {
    let request = worker.look.request.as_ref();
    let asked = request.and_then(|request| {
        let uri = printable(request.uri.as_deref()?).into_owned();
        let method = request.method.as_deref().map(printable).unwrap_or_default();
        Some(format!("{method} {uri}").trim_start().to_owned())
    });
    let script = || worker.job.as_deref().or(request.and_then(|request| request.script.as_deref()));
    let what = asked.or_else(|| script().map(|script| printable(script).into_owned()));
    match (worker.look.activity, what) {
        (Activity::Idle, None) => "idle".to_owned(),
        (Activity::Finishing, Some(what)) => format!("{what} (finishing)"),
        (_, Some(what)) => what,
        (_, None) => "?".to_owned(),
    }
}

fn innermost(stack: &[Frame]) -> Option<String> {
    let place = stack.iter().find_map(|frame| {
        let file = printable(frame.file.as_deref()?).into_owned();
        Some(match frame.line {
            Some(line) => format!("{file}:{line}"),
            None => file,
        })
    });
    let name = stack.first().and_then(Frame::name);
    let name = name.as_deref().map(printable);
    match (name, place) {
        (Some(name), Some(place)) => Some(format!("{name}  {place}")),
        (Some(name), None) => Some(name.into_owned()),
        (None, place) => place,
    }
}

fn limit(memory: Memory) -> String {
    memory.limit_bytes.map_or_else(|| "none".to_owned(), bytes)
}

/// Everything of one worker.
pub fn one(out: &mut impl Write, worker: &Worker) -> io::Result<()> {
    let look = &worker.look;
    let version = look.version.as_deref().map(printable).unwrap_or_default();
    let sapi = look.sapi.as_deref().map(printable).unwrap_or_default();
    let who = match (&look.pool, &worker.who.role) {
        (Some(pool), _) => format!("Worker {} of pool {}", look.tgid, printable(pool)),
        (None, Role::Master) => format!("Master {}, which serves no requests itself", look.tgid),
        (None, Role::Pool(None)) => {
            format!("Worker {} (its title, which names the pool, is swapped out)", look.tgid)
        }
        _ => format!("Process {}", look.tgid),
    };
    writeln!(out, "{who}: PHP {version} ({sapi}).")?;
    let elapsed = look.request.as_ref().and_then(|request| request.elapsed_ns);
    let time = elapsed.map(|ns| format!(", for {}", seconds(ns as f64 / 1e9))).unwrap_or_default();
    match look.activity {
        Activity::Idle => writeln!(out, "It is in no request.")?,
        _ => writeln!(out, "{:9}{}{time}", "Request", does(worker))?,
    }
    if let Some(request) = &look.request {
        for (name, text) in
            [("Host", &request.host), ("Client", &request.client), ("Script", &request.script)]
        {
            if let Some(text) = text {
                writeln!(out, "{name:9}{}", printable(text))?;
            }
        }
        if request.uri_rewritten {
            writeln!(out, "{:9}the URI is as the web server rewrote it", "")?;
        }
        if request.cut {
            writeln!(out, "{:9}longer texts were cut", "")?;
        }
    }
    if let Some(memory) = look.memory {
        writeln!(
            out,
            "{:9}{} in use, {} taken (at most {}); {}",
            "Memory",
            bytes(memory.used_bytes),
            bytes(memory.real_bytes),
            bytes(memory.real_peak_bytes),
            match memory.limit_bytes {
                Some(limit) => format!(
                    "memory_limit {}, {} left",
                    bytes(limit),
                    bytes(limit.saturating_sub(memory.real_bytes))
                ),
                None => "no memory_limit".to_owned(),
            }
        )?;
    }
    writeln!(
        out,
        "{:9}{} anonymous, {} swapped out",
        "Process",
        bytes(worker.anon_bytes),
        bytes(worker.swap_bytes)
    )?;
    stack(out, &look.stack, look.stack_cut)?;
    for missing in &look.missing {
        writeln!(out, "Missing  {}", printable(&missing.to_string()))?;
    }
    Ok(())
}

/// Innermost first; calls of a recursion on one line.
fn stack(out: &mut impl Write, stack: &[Frame], cut: bool) -> io::Result<()> {
    let mut at = 0;
    while let Some(frame) = stack.get(at) {
        let same = stack[at..].iter().take_while(|other| *other == frame).count();
        let head = if at == 0 { "Stack" } else { "" };
        let name = frame.name().unwrap_or_else(|| "(file)".to_owned());
        let place = match (&frame.file, frame.line) {
            (Some(file), Some(line)) => format!("  {}:{line}", printable(file)),
            (Some(file), None) => format!("  {}", printable(file)),
            (None, _) => String::new(),
        };
        let times = if same > 1 { format!("  ({same} times)") } else { String::new() };
        writeln!(out, "{head:9}#{at:<3} {}{place}{times}", printable(&name))?;
        at += same;
    }
    if cut {
        writeln!(out, "{:9}… and further frames", "")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ProcessKey;
    use crate::php::{Look, Part, Reason, Request, Who};

    fn worker(pool: Option<&str>, mib: u64) -> Worker {
        let key = ProcessKey { tgid: 14170, start_ns: 10 };
        let pool = pool.map(Into::into);
        Worker {
            who: Who {
                key,
                ppid: 1,
                sapi: "fpm".into(),
                role: Role::Pool(pool.clone()),
                version: None,
            },
            job: None,
            anon_bytes: mib << 20,
            swap_bytes: 0,
            look: Look {
                sapi: Some("fpm".into()),
                version: Some("8.2.36".into()),
                pool,
                activity: Activity::Idle,
                ..Look::new(key.tgid, key.start_ns)
            },
        }
    }

    fn busy() -> Worker {
        let mut busy = worker(Some("www"), 96);
        busy.look.activity = Activity::Request;
        busy.look.memory = Some(Memory {
            used_bytes: 90 << 20,
            real_bytes: 96 << 20,
            real_peak_bytes: 96 << 20,
            limit_bytes: Some(128 << 20),
        });
        busy.look.request = Some(Request {
            method: Some("GET".into()),
            uri: Some("/orders/17?token=…".into()),
            host: Some("shop.example".into()),
            script: Some("/srv/index.php".into()),
            elapsed_ns: Some(12_000_000_000),
            ..Request::default()
        });
        let leak = Frame {
            class: Some("App\\Import".into()),
            function: Some("load\u{1b}[2J".into()),
            file: Some("/srv/Import.php".into()),
            line: Some(214),
        };
        let main = Frame {
            class: None,
            function: None,
            file: Some("/srv/index.php".into()),
            line: Some(3),
        };
        busy.look.stack = vec![leak.clone(), leak, main];
        busy
    }

    fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_worker_in_sentences() {
        assert_eq!(
            text(|out| one(out, &busy())),
            "Worker 14170 of pool www: PHP 8.2.36 (fpm).\n\
             Request  GET /orders/17?token=…, for 12 s\n\
             Host     shop.example\n\
             Script   /srv/index.php\n\
             Memory   90.0 MiB in use, 96.0 MiB taken (at most 96.0 MiB); memory_limit 128 MiB, \
             32.0 MiB left\n\
             Process  96.0 MiB anonymous, 0 B swapped out\n\
             Stack    #0   App\\Import::load\\x1b[2J  /srv/Import.php:214  (2 times)\n\
             \u{20}        #2   (file)  /srv/index.php:3\n"
        );
    }

    #[test]
    fn all_workers_in_columns() {
        let mut swapped = worker(None, 7);
        swapped.look.activity = Activity::Unknown;
        swapped.look.miss(Part::Request, Reason::SwappedOut);
        let stuck = Silent { held_up: vec![7, 8], not_reached: 3 };
        let shown = text(|out| all(out, &[busy(), swapped, worker(Some("b"), 5)], &stuck));
        assert_eq!(
            shown,
            "\x20TGID  POOL  PHP     ANON+SWAP  PHP TOOK    LIMIT   FOR  DOES
14170  www   8.2.36   96.0 MiB  96.0 MiB  128 MiB  12 s  GET /orders/17?token=…
                                                         in App\\Import::load\\x1b[2J  \
/srv/Import.php:214
14170  ?     8.2.36    7.0 MiB         ?        ?        ?
                                                         (no request: not in memory (swapped out); reading it \
would add to the pressure)
14170  b     8.2.36    5.0 MiB         ?        ?        idle
No answer in time from 7, 8. No time was left to look whether 3 more processes are PHP.
"
        );
        assert_eq!(text(|out| all(out, &[], &Silent::default())), "No PHP worker runs here.\n");
    }
}
