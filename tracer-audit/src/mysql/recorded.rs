//! The buffer pool that a server wrote into its log as it started: what is in force where nobody can be asked, as in
//! an unpacked file system.
//!
//! InnoDB says it at each start, in the words of its version: `innodb_buffer_pool_size=128m` since MariaDB 10.11.12,
//! before that `Initializing buffer pool, total size = 128.000MiB`, or `128M`, or bytes. MySQL 8 says nothing by
//! default. A log that goes elsewhere (systemd's journal, as Debian has it) is not looked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::settings::Settings;
use crate::origin::{Notes, Origin};
use crate::root::Root;

/// What the last start wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The pool, bytes.
    pub pool_bytes: u64,
    /// The line.
    pub at: Origin,
    /// When the log was last written, seconds since 1970.
    pub written_unix_s: u64,
}

/// Looks into the log of `settings`, where they name one.
pub fn read(root: &Root, settings: &Settings, notes: &mut Notes) -> Option<Recorded> {
    let path = log(settings)?;
    let text = root.text(&path).inspect_err(|error| notes.unread(error)).ok()?;
    let (pool_bytes, line) = last(&text)?;
    let written = root.stat(&path).map_or(0, |stat| stat.st_mtime);
    let file: Arc<Path> = Arc::from(path);
    Some(Recorded {
        pool_bytes,
        at: Origin::new(&file, line),
        written_unix_s: u64::try_from(written).unwrap_or(0),
    })
}

/// `log_error`, below the data folder; a name without a suffix gets one (sql/mysqld.cc: fn_format).
fn log(settings: &Settings) -> Option<PathBuf> {
    let given = settings.text("log-error").filter(|path| !path.is_empty())?;
    let path = settings.data_folder().join(given);
    Some(if path.extension().is_some() { path } else { path.with_extension("err") })
}

/// The pool of the last start in `text`, and its line, from 1. None where it was resized after that: what came of
/// it each version says in another way, if at all.
fn last(text: &str) -> Option<(u64, u32)> {
    let mut found = None;
    for (number, line) in (1..).zip(text.lines()) {
        let Some((_, said)) = line.split_once("InnoDB") else { continue };
        if said.contains("resiz") || said.contains("Resiz") {
            found = None;
        } else if let Some(bytes) = pool(said) {
            found = Some((bytes, number));
        }
    }
    found
}

/// Of what InnoDB said.
fn pool(said: &str) -> Option<u64> {
    let starts = ["innodb_buffer_pool_size_max=", "Initializing buffer pool, total size = "];
    let (start, rest) = starts.iter().find_map(|start| Some((start, said.split_once(start)?.1)))?;
    let size = match start.ends_with('=') {
        true => rest.split_once("innodb_buffer_pool_size=")?.1,
        false => rest,
    };
    let size = size.split([',', ' ']).next()?;
    let end = size.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(size.len());
    let (number, unit) = size.split_at(end);
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" => 1,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return None,
    };
    match number.parse::<u64>() {
        Ok(number) => number.checked_mul(unit),
        // Never a whole number of bytes: three decimals of a GiB are a MiB.
        Err(_) => {
            let mib = number.parse::<f64>().ok()? * (unit >> 20) as f64;
            (mib.round() as u64).checked_mul(1 << 20)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_says_it_in_its_own_words() {
        for (line, mib) in [
            (
                "2025-09-17 13:31:01 0 [Note] InnoDB: innodb_buffer_pool_size_max=8388608m, innodb_buffer_pool_size=128m",
                128,
            ),
            (
                "2022-08-28 18:07:35 0 [Note] InnoDB: Initializing buffer pool, total size = 1.500GiB, chunk size = 24.000MiB",
                1536,
            ),
            (
                "2022-08-28 18:07:35 0 [Note] InnoDB: Initializing buffer pool, total size = 128.000MiB, chunk size = 2.000MiB",
                128,
            ),
            (
                "2021-05-26 22:25:32 0 [Note] InnoDB: Initializing buffer pool, total size = 805306368, chunk size = 201326592",
                768,
            ),
            (
                "2021-05-24 20:16:39 0 [Note] InnoDB: Initializing buffer pool, total size = 10G, instances = 2, chunk size = 128M",
                10240,
            ),
            (
                "x [Note] [MY-012951] [InnoDB] Initializing buffer pool, total size = 128.000000M, instances = 1, chunk size =128M",
                128,
            ),
        ] {
            assert_eq!(last(line), Some((mib << 20, 1)), "{line}");
        }
        for line in [
            "InnoDB: Completed initialization of buffer pool",
            "InnoDB: innodb_buffer_pool_size_max=128m",
            "InnoDB: Initializing buffer pool, total size = 99999999999999999999g",
            "InnoDB: Initializing buffer pool, total size = 18446744073709551615g",
            "InnoDB: Initializing buffer pool, total size = 1..2m",
            "InnoDB: Initializing buffer pool, total size = ",
            "Initializing buffer pool, total size = 128M",
        ] {
            assert_eq!(last(line), None, "{line}");
        }
        let text = "InnoDB: Initializing buffer pool, total size = 1G\n\n\
            InnoDB: Initializing buffer pool, total size = 2G\nInnoDB: x\n";
        assert_eq!(last(text), Some((2 << 30, 3)));
        let resized = "[Note] InnoDB: innodb_buffer_pool_size=256m (16192 pages) resized from 128m (8096 pages)";
        assert_eq!(last(&format!("{text}{resized}\n")), None);
    }
}
