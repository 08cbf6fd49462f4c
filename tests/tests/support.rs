//! `rampage doctor` on the running kernel against what is recorded in `tests/kernels/`, from which
//! docs/kernel-support.md is made.
//!
//! With `RAMPAGE_KERNEL=NAME` the running kernel is the recorded one of that name, and each hook
//! must be as it was. Without, it is some host's, which may be configured in any way: it must have
//! the same hooks, each in a state that explains itself.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tests::support::{Hook, Support};

/// The kernel whose hooks a host of any kind is compared with, by name only.
const REFERENCE: &str = "6.12";

/// Where the records are: `$RAMPAGE_KERNELS`, or `kernels` beside the tests.
fn records() -> PathBuf {
    std::env::var_os("RAMPAGE_KERNELS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels")),
        PathBuf::from,
    )
}

/// Lines that differ, so that a failure shows them and nothing else.
fn differences(recorded: &[Hook], found: &[Hook]) -> Vec<String> {
    let lacking = |from: &[Hook], all: &[Hook], sign| {
        from.iter()
            .filter(|hook| !all.contains(hook))
            .map(|hook| {
                format!("{sign} {} {} {} {}", hook.name, hook.mechanism, hook.state, hook.reason)
            })
            .collect::<Vec<_>>()
    };
    [lacking(recorded, found, '-'), lacking(found, recorded, '+')].concat()
}

fn names(hooks: &[Hook]) -> Vec<&str> {
    hooks.iter().map(|hook| hook.name.as_str()).collect()
}

#[test]
fn the_doctor_says_what_the_support_table_says() -> Result<()> {
    let found = Support::of_this_kernel()?;
    let name = std::env::var("RAMPAGE_KERNEL").ok();
    let recorded = Support::read(&records().join(name.as_deref().unwrap_or(REFERENCE)))?;
    for (rungs, recorded, found) in [
        ("all", &recorded.hooks, &found.hooks),
        ("lower", &recorded.lower_hooks, &found.lower_hooks),
    ] {
        assert_eq!(names(recorded), names(found), "{rungs} rungs");
        if let Some(name) = &name {
            let differences = differences(recorded, found);
            assert!(
                differences.is_empty(),
                "{rungs} rungs, against {name} as recorded:\n{}",
                differences.join("\n")
            );
            continue;
        }
        for hook in found {
            match hook.state.as_str() {
                "attached" => {
                    assert_eq!(hook.reason, "", "{hook:?}");
                    assert_ne!(hook.mechanism, "none", "{hook:?}");
                }
                "degraded" => assert_ne!(hook.reason, "", "{hook:?}"),
                "missing" => {
                    assert_ne!(hook.reason, "", "{hook:?}");
                    assert_eq!(hook.mechanism, "none", "{hook:?}");
                }
                state => panic!("{} is {state}", hook.name),
            }
        }
    }
    Ok(())
}

#[test]
fn a_recorded_kernel_is_that_of_its_folder() -> Result<()> {
    for entry in std::fs::read_dir(records()).context("no records")? {
        let folder = entry?.path();
        let support = Support::read(&folder)?;
        let name = folder.file_name().context("a folder without a name")?.to_string_lossy();
        // Of a name (`5.10.223`, a version of the package; `6.12-arm64`) the series is the release's.
        let series: Vec<_> = name.split(['.', '-']).take(2).collect();
        let belongs = support.release.starts_with(&format!("{}.", series.join(".")));
        assert!(*name == *"newest" || belongs, "{name}: {support:?}");
        for hook in &support.lower_hooks {
            assert!(!["tp_btf", "fentry"].contains(&&*hook.mechanism), "{name}: {hook:?}");
        }
    }
    Ok(())
}
