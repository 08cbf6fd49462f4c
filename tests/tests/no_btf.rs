//! A kernel without type information: live tracing is refused in words that help, polling works.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tests::cgroup::MemoryCgroup;
use tests::hog::Hog;
use tests::needs;
use tests::proc;
use tests::tracer::{self, Tracer};

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(30);

#[test]
fn live_tracing_is_refused_with_the_remedy() -> Result<()> {
    needs!(NoBtf);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("t.jsonl").display().to_string();
    for arguments in [
        &["watch", "--json", "--duration", "2s"][..],
        &["watch", "--plain", "--duration", "2s"],
        &["record", "-o", &file, "--duration", "2s"],
        &["demo"],
    ] {
        let output = tracer::run(arguments)?;
        let stderr = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {stderr}");
        assert!(stderr.contains("CONFIG_DEBUG_INFO_BTF=y"), "{arguments:?}: {stderr}");
        assert!(stderr.contains("--source procfs"), "{arguments:?}: {stderr}");
        assert!(stderr.lines().count() <= 2, "{arguments:?}: {stderr}");
    }
    Ok(())
}

#[test]
fn the_doctor_says_what_is_missing() -> Result<()> {
    needs!(NoBtf);
    let output = tracer::run(&["doctor", "--json"])?;
    assert_eq!(output.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report["facts"]["btf_bytes"], 0, "{report}");
    let remedy = report["refused"]["remedy"].as_str().unwrap_or_default();
    assert!(remedy.contains("--source procfs"), "{report}");
    Ok(())
}

#[test]
fn polling_works() -> Result<()> {
    needs!(NoBtf);
    let cgroup = MemoryCgroup::new("no-btf", 64 * MIB)?;
    let tracer = Tracer::watch("--source procfs")?;
    let hog = Hog::spawn(&cgroup, "anon:30:30 hold")?;
    hog.done("anon", SOON)?;
    tracer.settle()?;
    let trace = tracer.finish()?.trace;
    assert_eq!(trace.header()?.source, "procfs");
    let last = trace.last_growth(hog.pid())?;
    let least = 30 * MIB - proc::counter_error_bytes()?;
    assert!((least..34 * MIB).contains(&last.anon_bytes), "{last:?}");
    Ok(())
}
