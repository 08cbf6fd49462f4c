//! The built `rampage`, run as a user runs it.
#![expect(clippy::unwrap_used, reason = "a test without the program fails by panicking")]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

/// `$RAMPAGE_BIN`, or `rampage` from the same target folder and profile as the test itself, built
/// once.
pub fn rampage() -> Command {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let binary = BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("RAMPAGE_BIN") {
            return PathBuf::from(path);
        }
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "tracer-user", "--bin", "rampage"]);
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "{cargo:?}");
        profile.join("rampage")
    });
    let mut command = Command::new(binary);
    command.env_remove("NO_COLOR");
    command
}

/// Exit code, standard output and standard error.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}
