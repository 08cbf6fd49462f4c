//! What the program says of itself: manual pages, completions, a sample of the settings.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::exec::{Output, exec};

/// What each shell wants its file to be called.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "rampage.bash"), ("zsh", "_rampage"), ("fish", "rampage.fish")];

/// Writes all of them into `folder`; gives the number of manual pages.
pub fn write(binary: &Path, folder: &Path) -> anyhow::Result<usize> {
    let pages = manual(binary, folder)?;
    for (shell, name) in COMPLETIONS {
        let script = said(binary, &["completions", shell])?;
        ensure!(script.contains("incidents"), "`rampage completions {shell}` knows no command");
        put(folder, name, &script)?;
    }
    put(folder, "rampage.toml", &said(binary, &["config", "sample"])?)?;
    Ok(pages)
}

/// Writes rampage.1, a page for each command that it names, and rampage.toml.5.
fn manual(binary: &Path, folder: &Path) -> anyhow::Result<usize> {
    let page = |args: &[&str]| -> anyhow::Result<String> {
        let text = said(binary, &[&["man"], args].concat())?;
        ensure!(text.contains(".TH"), "`rampage man {}` gives no manual page", args.join(" "));
        Ok(text)
    };
    let main = page(&[])?;
    put(folder, "rampage.1", &main)?;
    let commands = commands(&main);
    ensure!(!commands.is_empty(), "rampage.1 names no command");
    for command in &commands {
        put(folder, &format!("rampage-{command}.1"), &page(&[command])?)?;
    }
    put(folder, "rampage.toml.5", &page(&["rampage.toml"])?)?;
    Ok(commands.len() + 2)
}

fn said(binary: &Path, args: &[&str]) -> anyhow::Result<String> {
    exec(Command::new(binary).args(args), Output::Captured)
}

fn put(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))
}

/// The commands in the main page's list: lines like `rampage\-watch(1)`.
fn commands(page: &str) -> Vec<String> {
    page.lines()
        .filter_map(|line| line.strip_prefix(r"rampage\-")?.strip_suffix("(1)"))
        .filter(|name| *name != "help")
        .map(|name| name.replace(r"\-", "-"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_from_the_page() {
        let page = ".SH SUBCOMMANDS\n.TP\nrampage\\-watch(1)\nWatch live\n.TP\n\
                    rampage\\-help(1)\nPrint this\n.TP\nrampage\\-two\\-words(1)\n";
        assert_eq!(commands(page), ["watch", "two-words"]);
    }
}
