//! What a guest (or the host) is told to do, and what it says of it: one object a line. The other
//! side is `tests/src/bin/guest`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::catalog::{Cgroup, Run};
use super::image::{INSIDE, Programs};

/// How much slower an emulated CPU may be: all that tests wait for may take that much longer.
const PATIENCE: u32 = 6;
/// No single test may take longer in a guest, seconds, unless `$RAMPAGE_TEST_SECONDS` says otherwise.
const TEST_SECONDS: u64 = 420;
/// What tests read that are to go on for longer, and is handed on to the guest.
const HANDED_ON: [&str; 1] = ["RAMPAGE_STORMS"];

/// How long a test may take, seconds.
pub fn test_seconds() -> u64 {
    let said = std::env::var("RAMPAGE_TEST_SECONDS").ok().and_then(|text| text.parse().ok());
    said.unwrap_or(TEST_SECONDS)
}

/// The order for one machine.
#[derive(Debug, Serialize)]
pub struct Plan {
    cgroup: Cgroup,
    swap: bool,
    hide_btf: bool,
    record: bool,
    test_seconds: u64,
    environment: BTreeMap<&'static str, String>,
    tests: Vec<Step>,
}

/// One test to run.
#[derive(Debug, Serialize)]
struct Step {
    name: String,
    program: String,
    test: String,
}

/// What a machine says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// A test begins.
    Begin(String),
    /// A test has ended.
    End(Ended),
    /// All is done, and nothing more will come.
    Finished {},
    /// The machine could not do what it was told.
    Broken(String),
}

/// How a test went.
#[derive(Clone, Debug, Deserialize)]
pub struct Ended {
    /// `PROGRAM::TEST`.
    pub name: String,
    /// Whether it held.
    pub outcome: Outcome,
    /// How long it took.
    pub seconds: f64,
    /// The feature that was missing, when it was skipped; what it printed, when it failed; what it
    /// measured, when it held.
    #[serde(default)]
    pub text: String,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It passed.
    Ok,
    /// It failed, or took too long.
    Failed,
    /// It did not run, for want of a feature.
    Skipped,
}

impl Plan {
    /// For a guest.
    pub fn in_guest(run: &Run) -> Self {
        let inside = |below: &str| format!("{INSIDE}/{below}");
        let mut environment = BTreeMap::from([
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("HOME", "/root".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("RAMPAGE_BIN", inside("tests/rampage")),
            ("RAMPAGE_INCIDENT", inside("incident")),
            ("RAMPAGE_KEEP", inside("out/traces")),
            ("RAMPAGE_KERNEL", run.kernel.name.clone()),
            ("RAMPAGE_KERNELS", inside("kernels")),
            ("RAMPAGE_LACKS", run.lacks().join(",")),
            ("RAMPAGE_MACHINE", "ours".to_owned()),
            ("RAMPAGE_PATIENCE", PATIENCE.to_string()),
            ("RAMPAGE_QUIET_SECONDS", "20".to_owned()),
        ]);
        let handed_on =
            HANDED_ON.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?)));
        environment.extend(handed_on);
        Self {
            cgroup: run.guest.cgroup,
            swap: run.guest.swap_mib > 0,
            hide_btf: run.guest.hide_btf,
            record: run.record,
            test_seconds: test_seconds(),
            environment,
            tests: run
                .tests
                .iter()
                .map(|name| step(name, |program| inside("tests/") + program))
                .collect(),
        }
    }

    /// For this host, where the programs are as cargo left them.
    pub fn on_host(tests: &[String], programs: &Programs, rampage: &Path) -> Self {
        let path = |name: &str| {
            let program = programs.tests.iter().find(|program| program.name == name);
            program.map(|program| program.path.display().to_string()).unwrap_or_default()
        };
        Self {
            cgroup: Cgroup::V2,
            swap: false,
            hide_btf: false,
            record: false,
            test_seconds: test_seconds(),
            environment: BTreeMap::from([("RAMPAGE_BIN", rampage.display().to_string())]),
            tests: tests.iter().map(|name| step(name, path)).collect(),
        }
    }
}

fn step(name: &str, path: impl FnOnce(&str) -> String) -> Step {
    let (program, test) = name.split_once("::").unwrap_or((name, ""));
    Step { name: name.to_owned(), program: path(program), test: test.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_machines_say_is_read() {
        let said: Said = serde_json::from_str(
            r#"{"end":{"name":"a::b","outcome":"skipped","seconds":0.5,"text":"swap"}}"#,
        )
        .unwrap();
        let Said::End(ended) = said else { panic!("{said:?}") };
        assert_eq!((ended.outcome, &*ended.text), (Outcome::Skipped, "swap"));
        assert!(matches!(serde_json::from_str(r#"{"finished":{}}"#).unwrap(), Said::Finished {}));
        assert!(serde_json::from_str::<Said>(r#"{"end":{"name":"a"}}"#).is_err());
    }

    #[test]
    fn a_name_is_program_and_test() {
        let step = step("kernel_oom::deep::one", |program| format!("/x/{program}"));
        assert_eq!((&*step.program, &*step.test), ("/x/kernel_oom", "deep::one"));
    }
}
