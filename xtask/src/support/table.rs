//! docs/kernel-support.md: what is attached how on each recorded kernel, what is lost, and how much
//! of the verifier's patience each program takes.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Hook, Instructions, Records, Support, read};

const HEAD: &str = "\
<!-- Generated from tests/kernels by `cargo xtask verifier --bless`. Do not edit. -->
# Kernels

What rampage attaches on each kernel that it is tested on, and what is lost where something cannot be
attached. Recorded inside of virtual machines by `rampage doctor`, which says the same of any other
host, and held to it by `tests/tests/support.rs`.
";

const HOOKS: &str = "
## Hooks

Each hook is attached by the best mechanism that the kernel takes.
";

const LOWER: &str = "
## Lower rungs

The same with `tp_btf` and `fentry` forbidden: what serves where a kernel refuses those two.
";

const PROGRAMS: &str = "
## Programs

Instructions that the verifier walked through, over all paths, until it took the program; its limit is
1,000,000. Kernels before 5.16 do not report that number (marked †): there, the instructions of the
program as the kernel translated it are held instead. `cargo xtask verifier` fails when a program
grew by more than 10 % on any kernel. A dash: not for this kernel.
";

/// The document for the records in `kernels_dir`.
///
/// # Errors
/// When one of the records cannot be read, or there is none.
pub fn render(kernels_dir: &Path) -> anyhow::Result<String> {
    Ok(document(&read(kernels_dir)?))
}

fn document(records: &Records) -> String {
    let mut out = HEAD.to_owned();
    out.push('\n');
    let yes = |fact| if fact { "yes" } else { "no" }.to_owned();
    row(&mut out, &["Kernel", "Release", "Architecture", "kprobes", "fentry"]);
    row(&mut out, &["---"; 5]);
    for (name, Support { release, arch, facts, .. }) in records {
        let kprobes = yes(facts.kprobes);
        row(&mut out, &[&name.text, release, arch, &kprobes, &yes(facts.fentry)]);
    }
    out.push_str(HOOKS);
    hooks(&mut out, records, |support| &support.hooks);
    out.push_str(LOWER);
    hooks(&mut out, records, |support| &support.lower_hooks);
    out.push_str(PROGRAMS);
    programs(&mut out, records);
    out
}

/// Hook × kernel: the mechanism; at the end of the line the reasons.
fn hooks(out: &mut String, records: &Records, of: fn(&Support) -> &[Hook]) {
    head(out, records, "Hook", &["Why, and what is lost"]);
    let mut names: Vec<&str> = Vec::new();
    for hook in records.values().flat_map(of) {
        if !names.contains(&hook.name.as_str()) {
            names.push(&hook.name);
        }
    }
    for name in names {
        let mut cells = vec![name.to_owned()];
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for (kernel, support) in records {
            let Some(hook) = of(support).iter().find(|hook| hook.name == name) else {
                cells.push(DASH.to_owned());
                continue;
            };
            cells.push(hook.mechanism.clone());
            if hook.reason.is_empty() {
                continue;
            }
            match reasons.iter_mut().find(|(reason, _)| *reason == hook.reason) {
                Some((_, kernels)) => kernels.push(&kernel.text),
                None => reasons.push((&hook.reason, vec![&kernel.text])),
            }
        }
        let said: Vec<String> = reasons
            .into_iter()
            .map(|(reason, kernels)| format!("{}: {reason}", kernels.join(", ")))
            .collect();
        cells.push(said.join("; "));
        row(out, &cells);
    }
}

/// Program × kernel: the count that is held.
fn programs(out: &mut String, records: &Records) {
    head(out, records, "Program", &[]);
    let names: BTreeSet<_> = records.values().flat_map(|support| support.programs.keys()).collect();
    for name in names {
        let mut cells = vec![name.clone()];
        for support in records.values() {
            cells.push(match support.programs.get(name) {
                Some(Instructions { verified: Some(count), .. }) => count.to_string(),
                Some(Instructions { translated: Some(count), .. }) => format!("{count} †"),
                _ => DASH.to_owned(),
            });
        }
        row(out, &cells);
    }
}

const DASH: &str = "–";

/// The first two lines of a table whose columns are the kernels.
fn head(out: &mut String, records: &Records, first: &str, last: &[&str]) {
    let mut cells = vec![first];
    cells.extend(records.keys().map(|name| name.text.as_str()));
    cells.extend(last);
    out.push('\n');
    row(out, &cells);
    row(out, &vec!["---"; cells.len()]);
}

fn row(out: &mut String, cells: &[impl AsRef<str>]) {
    for cell in cells {
        out.push_str("| ");
        out.push_str(&cell.as_ref().replace('|', "\\|"));
        out.push(' ');
    }
    out.push_str("|\n");
}

#[cfg(test)]
mod tests {
    use super::super::{Facts, Name};
    use super::*;

    fn hook(name: &str, mechanism: &str, reason: &str) -> Hook {
        let state = if reason.is_empty() { "attached" } else { "missing" };
        Hook {
            mechanism: mechanism.to_owned(),
            name: name.to_owned(),
            reason: reason.to_owned(),
            state: state.to_owned(),
        }
    }

    fn support(release: &str, reason: &str, verified: Option<u32>) -> Support {
        let size = Instructions { verified, translated: Some(7) };
        Support {
            arch: "x86_64".to_owned(),
            facts: Facts { kprobes: true, fentry: false },
            hooks: vec![hook("oom/mark_victim", "tp_btf", ""), hook("sweep/task", "none", reason)],
            lower_hooks: vec![hook("oom/mark_victim", "raw_tracepoint", "")],
            programs: [("sweep".to_owned(), size)].into(),
            release: release.to_owned(),
        }
    }

    #[test]
    fn every_kernel_is_a_column() {
        let mut old = support("5.10.0-32", "slow|dear", None);
        old.hooks.push(hook("growth/old", "kprobe", ""));
        let records = [
            (Name::new("6.1"), support("6.1.0-50", "slow|dear", Some(12))),
            (Name::new("5.10"), old),
            (Name::new("newest"), support("7.2", "other", Some(13))),
        ];
        let document = document(&records.into());
        for line in [
            "| 5.10 | 5.10.0-32 | x86_64 | yes | no |",
            "| Hook | 5.10 | 6.1 | newest | Why, and what is lost |",
            "| oom/mark_victim | tp_btf | tp_btf | tp_btf |  |",
            "| sweep/task | none | none | none | 5.10, 6.1: slow\\|dear; newest: other |",
            "| growth/old | kprobe | – | – |  |",
            "| oom/mark_victim | raw_tracepoint | raw_tracepoint | raw_tracepoint |  |",
            "| sweep | 7 † | 12 | 13 |",
        ] {
            assert!(document.lines().any(|found| found == line), "{line}\n{document}");
        }
    }
}
