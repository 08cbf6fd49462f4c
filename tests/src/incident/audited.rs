//! `rampage audit` as who keeps the site runs it: beside the servers, with their files and their memory.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::site::Site;
use crate::binary;

/// What it said.
#[derive(Clone, Debug)]
pub struct Audited {
    report: Value,
}

impl Audited {
    /// Runs it with more arguments.
    pub fn run(site: &Site, arguments: &[&str]) -> Result<Self> {
        let rampage = binary::rampage()?.display().to_string();
        let mut command = site.place().command(&rampage)?;
        let output = command.args(["audit", "--json"]).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(matches!(output.status.code(), Some(0 | 5)), "{}: {said}", output.status);
        let report = serde_json::from_slice(&output.stdout).context("the audit's JSON")?;
        Ok(Self { report })
    }

    /// Severity, file and sentence of each finding.
    pub fn findings(&self) -> Vec<[&str; 3]> {
        let findings = self.report["findings"].as_array().into_iter().flatten();
        findings
            .map(|finding| {
                [&finding["severity"], &finding["at"]["file"], &finding["summary"]]
                    .map(|value| value.as_str().unwrap_or_default())
            })
            .collect()
    }

    /// Fails unless a finding of this severity is about `file` and has `words` in its sentence.
    pub fn must_say(&self, severity: &str, file: &str, words: &str) -> Result<()> {
        let is_it = |found: &[&str; 3]| {
            found[0] == severity && found[1] == file && found[2].contains(words)
        };
        ensure!(self.findings().iter().any(is_it), "no {severity} finding says {words} of {file}");
        Ok(())
    }

    /// Prints the findings, and what is planned.
    pub fn tell(&self, when: &str) {
        println!("audit, {when}:");
        for [severity, file, summary] in self.findings() {
            println!("  {severity}: {summary} [{file}]");
        }
        for proposal in self.plan("proposals") {
            let [file, key, from, to] = ["file", "key", "from", "to"].map(|name| &proposal[name]);
            println!("  plan: {file}: {key} {from} -> {to}");
        }
    }

    /// Sum of the plan's rows, bytes.
    pub fn planned_bytes(&self) -> u64 {
        self.plan("rows").iter().filter_map(|row| row["proposed_bytes"].as_u64()).sum()
    }

    /// Lines that the plan wants to be written into `file` by hand, because it has no folder of drop-in files.
    pub fn lines_by_hand(&self, file: &str) -> Vec<&str> {
        let remarks = self.plan("remarks").iter().filter_map(Value::as_str);
        let remarks = remarks.filter(|remark| remark.contains(file));
        remarks.filter_map(|remark| remark.split('`').nth(1)).collect()
    }

    fn plan(&self, part: &str) -> &[Value] {
        self.report["plan"][part].as_array().map_or(&[], Vec::as_slice)
    }
}
