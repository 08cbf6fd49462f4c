//! `cargo xtask run`: builds, and becomes rampage.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::anyhow;

use crate::build::{self, Courier};
use crate::exec::line;
use crate::workspace::{Workspace, as_root};

/// Examples below the help of `run`.
pub const EXAMPLES: &str = "\
Examples:
  cargo xtask run                       rampage watch
  cargo xtask run -- --plain            rampage watch --plain
  cargo xtask run -- doctor             rampage doctor
  cargo xtask run -- record -o t.jsonl  rampage record -o t.jsonl";

/// Builds and replaces this process by rampage, so that signals and the terminal are rampage's.
/// Returns only when that fails.
pub fn execute(workspace: &Workspace, args: &[OsString]) -> anyhow::Result<()> {
    let mut rampage = as_root(workspace.rampage())?;
    let serves = args.first().is_some_and(|arg| arg == "serve");
    build::execute(workspace, if serves { Courier::Wanted } else { Courier::LeftOut })?;
    if !names_a_command(args) {
        rampage.arg("watch");
    }
    rampage.args(args);
    Err(anyhow!(rampage.exec()).context(format!("cannot start `{}`", line(&rampage))))
}

/// `watch` takes flags only: anything else in first place is a command of rampage.
fn names_a_command(args: &[OsString]) -> bool {
    args.first().is_some_and(|arg| !arg.as_encoded_bytes().starts_with(b"-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_replaces_watch_and_flags_are_added_to_it() {
        let args = |words: &[&str]| words.iter().map(Into::into).collect::<Vec<OsString>>();
        assert!(!names_a_command(&[]));
        assert!(!names_a_command(&args(&["--plain"])));
        assert!(!names_a_command(&args(&["--comm", "doctor"])));
        assert!(names_a_command(&args(&["doctor", "--json"])));
    }
}
