//! What a kernel offers rampage, as it is recorded in `tests/kernels/NAME/support.json`: what
//! `rampage doctor` came to on it, at best and with the upper rungs forbidden.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::binary;

/// Mechanisms forbidden for the lower rungs.
pub const UPPER_RUNGS: &str = "tp_btf,fentry";

/// What of the doctor's facts the kernel alone decides.
const FACTS: [&str; 4] = ["btf_bytes", "fentry", "kprobes", "tracepoints"];

/// A kernel's support.json; fields in the order of their names.
#[derive(Debug, Serialize, Deserialize)]
pub struct Support {
    /// `uname -m`.
    pub arch: String,
    /// Some of the doctor's facts, as it writes them.
    pub facts: BTreeMap<String, Value>,
    /// Each hook.
    pub hooks: Vec<Hook>,
    /// Each hook with [`UPPER_RUNGS`] forbidden.
    pub lower_hooks: Vec<Hook>,
    /// Every program that either run loaded.
    pub programs: BTreeMap<String, Instructions>,
    /// `uname -r`.
    pub release: String,
}

/// One hook of `rampage doctor --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// How it is attached, or `none`.
    pub mechanism: String,
    /// Subsystem and target.
    pub name: String,
    /// What was refused, and what is lost.
    pub reason: String,
    /// `attached`, `degraded` or `missing`.
    pub state: String,
}

/// Size of a program, instructions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instructions {
    /// After the kernel's rewriting.
    pub translated: Option<u32>,
    /// That the verifier walked through; none before 5.16.
    pub verified: Option<u32>,
}

impl Support {
    /// What the running kernel offers; loads all programs, which takes root.
    pub fn of_this_kernel() -> Result<Self> {
        let best = doctor("")?;
        let lower = doctor(UPPER_RUNGS)?;
        let mut programs = BTreeMap::new();
        for report in [&best, &lower] {
            add_programs(report, &mut programs)?;
        }
        let facts = &best["facts"];
        let text =
            |name: &str| facts[name].as_str().map(str::to_owned).context("a fact is unknown");
        Ok(Self {
            arch: text("arch")?,
            release: text("kernel")?,
            facts: FACTS.map(|name| (name.to_owned(), facts[name].clone())).into(),
            hooks: serde_json::from_value(best["hooks"].clone())?,
            lower_hooks: serde_json::from_value(lower["hooks"].clone())?,
            programs,
        })
    }

    /// What was recorded in this folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("support.json");
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }
}

/// What `rampage doctor --json` says with these mechanisms forbidden.
fn doctor(forbid: &str) -> Result<Value> {
    let rampage = binary::rampage()?;
    let mut command = Command::new(&rampage);
    command.args(["doctor", "--json"]);
    if !forbid.is_empty() {
        command.args(["--forbid", forbid]);
    }
    let done = command.output().with_context(|| rampage.display().to_string())?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{command:?}: {}: {said}", done.status);
    let report: Value = serde_json::from_slice(&done.stdout)?;
    ensure!(report["refused"].is_null(), "{command:?}: {}", report["refused"]);
    Ok(report)
}

/// Adds the programs of a run; one that was in an earlier run must have the same size.
fn add_programs(report: &Value, all: &mut BTreeMap<String, Instructions>) -> Result<()> {
    #[derive(Deserialize)]
    struct Program {
        name: String,
        translated_instructions: Option<u32>,
        verified_instructions: Option<u32>,
    }
    for program in Vec::<Program>::deserialize(&report["programs"])? {
        let size = Instructions {
            translated: program.translated_instructions,
            verified: program.verified_instructions,
        };
        let known = all.entry(program.name.clone()).or_insert_with(|| size.clone());
        ensure!(*known == size, "{}: {known:?}, then {size:?}", program.name);
    }
    Ok(())
}
