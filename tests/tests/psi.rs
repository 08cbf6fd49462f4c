//! Pressure stall information: shown where the kernel gives it, and said to be missing where not.

use anyhow::{Context, Result};
use rampage::event::{Event, Pressure};
use serde_json::Value;
use tests::needs;
use tests::trace::Trace;
use tests::tracer::{self, Tracer};

fn doctor() -> Result<Value> {
    let output = tracer::run(&["doctor", "--json"])?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    Ok(report["facts"]["psi"].clone())
}

fn of_host(trace: &Trace) -> Result<&Pressure> {
    let last = trace.events().rev().find_map(|event| match event {
        Event::Pressure(pressure) if &*pressure.scope == "host" => Some(pressure),
        _ => None,
    });
    last.context("no pressure of the host in the trace")
}

fn traced(arguments: &str) -> Result<Trace> {
    let tracer = Tracer::watch(arguments)?;
    tracer.settle()?;
    Ok(tracer.finish()?.trace)
}

fn averages_are_traced(arguments: &str) -> Result<()> {
    let trace = traced(arguments)?;
    let pressure = of_host(&trace)?;
    assert!(pressure.some_avg10.is_some() && pressure.full_avg10.is_some(), "{pressure:?}");
    Ok(())
}

#[test]
fn where_there_is_psi_it_is_shown() -> Result<()> {
    needs!(Psi);
    assert_eq!(doctor()?, "present");
    averages_are_traced("--source procfs")
}

#[test]
fn where_there_is_psi_it_is_traced() -> Result<()> {
    needs!(Psi, Btf);
    averages_are_traced("")
}

#[test]
fn where_there_is_none_that_is_said() -> Result<()> {
    needs!(NoPsi);
    // psi=0 is seen on the command line; else it looks as if the kernel had none.
    let off = std::fs::read_to_string("/proc/cmdline")?.split_whitespace().any(|w| w == "psi=0");
    assert_eq!(doctor()?, if off { "disabled" } else { "absent" });
    let trace = traced("--source procfs")?;
    let pressure = of_host(&trace)?;
    assert_eq!((pressure.some_avg10, pressure.full_avg10), (None, None));
    assert!(pressure.used_bytes > 0, "the rest is there: {pressure:?}");
    Ok(())
}
