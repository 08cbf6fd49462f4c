//! `rampage config`: checks the settings of `serve`, shows them, and says what there is to set.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use crate::cli::{ConfigAction, ConfigArgs, ConfigFile};
use crate::settings::{self, DEFAULT_PATH, Loaded, Problem, SettingsError};
use crate::sink::SinkError;
use crate::text::printable;

/// Does what is asked for.
pub fn execute(args: &ConfigArgs) -> anyhow::Result<()> {
    match &args.action {
        ConfigAction::Check(file) => check(file),
        ConfigAction::Show(file) => {
            let loaded = settings::load(file.file.as_deref())?;
            match file.json {
                true => print(&format!("{:#}\n", settings::show_json(&loaded))),
                false => print(&settings::show(&loaded)),
            }
        }
        ConfigAction::Sample => print(&settings::sample()),
        ConfigAction::Schema => print(&format!("{:#}\n", settings::schema().to_value())),
    }
}

/// One line when nothing is wrong. Warnings go to the standard error and are no failure.
fn check(file: &ConfigFile) -> anyhow::Result<()> {
    let loaded = settings::load(file.file.as_deref());
    if file.json {
        print(&format!("{:#}\n", outcome(&loaded)))?;
    }
    let loaded = loaded?;
    let warnings = warnings(&loaded);
    for warning in &warnings {
        // Nothing can be said when standard error is gone; the exit code is the same.
        let _ = writeln!(io::stderr(), "rampage: warning: {warning}");
    }
    if file.json {
        return Ok(());
    }
    let told = match warnings.len() {
        0 => "no problem".to_owned(),
        1 => "1 warning".to_owned(),
        count => format!("{count} warnings"),
    };
    match (&loaded.file, loaded.given()) {
        (None, _) => print(&format!("there is no {DEFAULT_PATH}: the defaults are in force\n")),
        (Some(path), 1) => print(&format!("{}: 1 setting, {told}\n", name(path))),
        (Some(path), count) => print(&format!("{}: {count} settings, {told}\n", name(path))),
    }
}

fn warnings(loaded: &Loaded) -> Vec<Problem> {
    loaded.warnings.iter().cloned().chain(loaded.host_warnings()).collect()
}

/// The same as an object: `settings` (how many the file gives, null = it cannot be used), `problems`
/// and `warnings`, each with `file`, `line`, `key` and `message`.
fn outcome(loaded: &Result<Loaded, SettingsError>) -> serde_json::Value {
    let one = |problem: &Problem| {
        json!({
            "file": problem.path.to_string_lossy(),
            "line": problem.line,
            "key": problem.key,
            "message": problem.fault.to_string(),
        })
    };
    let all = |problems: &[Problem]| problems.iter().map(one).collect::<Vec<_>>();
    match loaded {
        Ok(loaded) => {
            let warnings = all(&warnings(loaded));
            json!({ "settings": loaded.given(), "problems": [], "warnings": warnings })
        }
        Err(SettingsError::Invalid { problems }) => {
            json!({ "settings": null, "problems": all(problems), "warnings": [] })
        }
        Err(error) => {
            let problem = json!({
                "file": null,
                "line": null,
                "key": "",
                "message": error.to_string(),
            });
            json!({ "settings": null, "problems": [problem], "warnings": [] })
        }
    }
}

fn name(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| SinkError::writing("standard output", error).into())
}
