//! Traces that guests have recorded, replayed on this host: the findings must be the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use crate::exec::{Output, exec};
use crate::workspace::Workspace;

/// One line for each trace in `folder/traces` that this host finds something else in.
pub fn differences(
    workspace: &Workspace,
    machine: &str,
    folder: &Path,
) -> anyhow::Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(folder.join("traces")) else { return Ok(Vec::new()) };
    let mut differences = Vec::new();
    let mut replayed = 0;
    let mut found = 0;
    for entry in entries {
        let path = entry?.path();
        let recorded = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let recorded = findings(&recorded);
        let mut replay = Command::new(workspace.rampage());
        replay.arg("replay").arg(&path).arg("--json");
        let again = findings(&exec(&mut replay, Output::Captured)?);
        if recorded != again {
            differences.push(format!(
                "{machine}: {} replays differently here: {} findings, {} when recorded",
                path.display(),
                again.len(),
                recorded.len()
            ));
        }
        replayed += 1;
        found += recorded.len();
    }
    println!("{machine}: {replayed} traces replayed here, {found} findings");
    Ok(differences)
}

fn findings(trace: &str) -> Vec<Value> {
    let lines = trace.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["type"] == "finding").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_told_from_the_rest() {
        let trace = "{\"type\":\"tick\"}\n{\"type\":\"finding\",\"n\":1}\n{\"type\":";
        assert_eq!(findings(trace).len(), 1);
        assert_eq!(findings(trace)[0]["n"], 1);
    }
}
