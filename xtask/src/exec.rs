//! Runs commands; a failure names the command, its status and the output that was not shown.

use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, bail};

/// How much of a captured output an error repeats, from its end.
const SHOWN_BYTES: usize = 8 << 10;

/// What becomes of a command's output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Goes to our own output as it comes.
    Shown,
    /// Is kept: returned on success, part of the error on failure.
    Captured,
}

/// Runs a command to its end. Gives its standard output when captured, else an empty string.
pub fn exec(command: &mut Command, output: Output) -> anyhow::Result<String> {
    if output == Output::Shown {
        let status =
            command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
        check(command, status, "")?;
        return Ok(String::new());
    }
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    let stdout = String::from_utf8_lossy(&done.stdout);
    let all = format!("{stdout}{}", String::from_utf8_lossy(&done.stderr));
    check(command, done.status, &all)?;
    Ok(stdout.into_owned())
}

/// An error for a status that is not success.
pub fn check(command: &Command, status: ExitStatus, output: &str) -> anyhow::Result<()> {
    if status.success() {
        return Ok(());
    }
    let output = output.trim();
    let cut = output.ceil_char_boundary(output.len().saturating_sub(SHOWN_BYTES));
    let separator = if output.is_empty() { "" } else { ":\n" };
    bail!("`{}` failed ({status}){separator}{}", line(command), &output[cut..]);
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy()));
    let quote = |word: &str| {
        if !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./=:,@+".contains(c))
        {
            word.to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_command_status_and_output() {
        let error = exec(
            Command::new("sh").args(["-c", "echo to-out; echo to-err >&2; exit 3"]),
            Output::Captured,
        )
        .unwrap_err()
        .to_string();
        assert!(error.starts_with("`sh -c 'echo to-out"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("to-out\nto-err"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = exec(&mut Command::new("/no/such/program"), Output::Shown).unwrap_err();
        assert_eq!(error.to_string(), "cannot start `/no/such/program`");
    }

    #[test]
    fn captured_output_is_given() {
        let text = exec(Command::new("echo").arg("two words"), Output::Captured).unwrap();
        assert_eq!(text, "two words\n");
    }

    #[test]
    fn a_long_output_is_cut_at_its_start() {
        let status = Command::new("false").status().unwrap();
        let text = format!("first {} last", "ü".repeat(SHOWN_BYTES));
        let error = check(&Command::new("false"), status, &text).unwrap_err().to_string();
        assert!(!error.contains("first") && error.ends_with(" last"));
    }
}
