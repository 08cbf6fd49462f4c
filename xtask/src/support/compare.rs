//! What changed between two sets of records, and what of it may not pass unseen.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Hook, Instructions, Records, Support};

/// Growth of a program that is let pass, percent.
const BUDGET_PERCENT: u64 = 10;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    kernel: String,
    /// Program, hook, or what else it is about.
    subject: String,
    what: String,
    /// It needs a blessing.
    complaint: bool,
}

/// What of the changes may not pass: programs that grew by more than 10 %, vanished or have no
/// record, hooks that changed, kernels that are in one set only.
pub fn complaints(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .filter(|change| change.complaint)
        .map(|Change { kernel, subject, what, .. }| format!("{kernel}: {subject}: {what}"))
        .collect()
}

/// The changes as lines in columns.
pub fn table(changes: &[Change]) -> String {
    let mut out = String::new();
    let width = |field: fn(&Change) -> &str| {
        changes.iter().map(|change| field(change).chars().count()).max().unwrap_or(0)
    };
    let (kernel, subject) = (width(|change| &change.kernel), width(|change| &change.subject));
    for change in changes {
        let mark = if change.complaint { '!' } else { ' ' };
        // Writing to a String does not fail.
        let _ = writeln!(
            out,
            "{mark} {:kernel$}  {:subject$}  {}",
            change.kernel, change.subject, change.what
        );
    }
    out
}

/// All differences, by kernel.
pub fn changes(old: &Records, new: &Records) -> Vec<Change> {
    let mut changes = Vec::new();
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for name in names {
        let mut say = |subject: &str, what: String, complaint| {
            let (kernel, subject) = (name.text.clone(), subject.to_owned());
            changes.push(Change { kernel, subject, what, complaint });
        };
        match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) => of_kernel(old, new, &mut say),
            (Some(_), None) => say("kernel", "is recorded, and was not run".to_owned(), true),
            (None, _) => say("kernel", "has no record yet".to_owned(), true),
        }
    }
    changes
}

type Say<'a> = dyn FnMut(&str, String, bool) + 'a;

fn of_kernel(old: &Support, new: &Support, say: &mut Say<'_>) {
    if old.release != new.release {
        say("release", format!("{} -> {}", old.release, new.release), false);
    }
    if old.facts != new.facts {
        say("facts", format!("{:?} -> {:?}", old.facts, new.facts), true);
    }
    of_hooks("", &old.hooks, &new.hooks, say);
    of_hooks(" (lower rungs)", &old.lower_hooks, &new.lower_hooks, say);
    let programs: BTreeSet<_> = old.programs.keys().chain(new.programs.keys()).collect();
    for name in programs {
        match (old.programs.get(name), new.programs.get(name)) {
            (Some(old), Some(new)) => of_program(name, *old, *new, say),
            (Some(_), None) => say(name, "vanished, or no longer loads".to_owned(), true),
            (None, _) => say(name, "has no record yet".to_owned(), true),
        }
    }
}

fn of_hooks(rungs: &str, old: &[Hook], new: &[Hook], say: &mut Say<'_>) {
    let shown = |hook: Option<&Hook>| {
        hook.map_or_else(
            || "no hook".to_owned(),
            |Hook { mechanism, state, reason, .. }| {
                format!("{mechanism} {state} {reason}").trim_end().to_owned()
            },
        )
    };
    let names: BTreeSet<_> = old.iter().chain(new).map(|hook| &hook.name).collect();
    for name in names {
        let find = |hooks: &'_ [Hook]| hooks.iter().position(|hook| hook.name == *name);
        let was = find(old).map(|index| &old[index]);
        let is = find(new).map(|index| &new[index]);
        if was != is {
            say(&format!("{name}{rungs}"), format!("{} -> {}", shown(was), shown(is)), true);
        }
    }
}

fn of_program(name: &str, old: Instructions, new: Instructions, say: &mut Say<'_>) {
    if old.verified.is_some() != new.verified.is_some() {
        let way = |size: Instructions| {
            if size.verified.is_some() { "verified" } else { "translated" }
        };
        say(name, format!("{} -> {} instructions are counted", way(old), way(new)), true);
        return;
    }
    let (Some(was), Some(is)) = (old.held(), new.held()) else {
        say(name, "has no count of instructions".to_owned(), true);
        return;
    };
    if was != is {
        let percent = (f64::from(is) / f64::from(was) - 1.0) * 100.0;
        let above = u64::from(is) * 100 > u64::from(was) * (100 + BUDGET_PERCENT);
        say(name, format!("{was} -> {is} instructions ({percent:+.1} %)"), above);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Facts, Name};
    use super::*;

    fn counted(verified: Option<u32>, translated: u32) -> Instructions {
        Instructions { verified, translated: Some(translated) }
    }

    fn records() -> Records {
        let hook = Hook {
            mechanism: "tp_btf".to_owned(),
            name: "growth/rss_stat".to_owned(),
            reason: String::new(),
            state: "attached".to_owned(),
        };
        let support = Support {
            arch: "x86_64".to_owned(),
            facts: Facts { kprobes: true, fentry: true },
            hooks: vec![hook.clone()],
            lower_hooks: vec![Hook { mechanism: "raw_tracepoint".to_owned(), ..hook }],
            programs: [
                ("sweep".to_owned(), counted(Some(1000), 300)),
                ("old".to_owned(), counted(None, 200)),
            ]
            .into(),
            release: "6.1.0-50".to_owned(),
        };
        [(Name::new("6.1"), support)].into()
    }

    /// The changes after this was done to the record.
    fn after(change: impl FnOnce(&mut Support)) -> Vec<Change> {
        let mut new = records();
        change(new.get_mut(&Name::new("6.1")).unwrap());
        changes(&records(), &new)
    }

    /// The same, of which there must be one: what it says, and whether it is a complaint.
    fn only(change: impl FnOnce(&mut Support)) -> (String, bool) {
        let changes = after(change);
        assert_eq!(changes.len(), 1, "{changes:?}");
        (format!("{} {}", changes[0].subject, changes[0].what), changes[0].complaint)
    }

    fn resize(verified: Option<u32>, translated: u32) -> impl FnOnce(&mut Support) {
        move |support| {
            support.programs.insert("sweep".to_owned(), counted(verified, translated));
        }
    }

    #[test]
    fn a_program_may_grow_by_a_tenth_and_shrink_at_will() {
        assert_eq!(after(|_| {}), []);
        assert!(after(resize(Some(1000), 900)).is_empty(), "the verified count is held");
        let said = only(resize(Some(1100), 300));
        assert_eq!(said, ("sweep 1000 -> 1100 instructions (+10.0 %)".to_owned(), false));
        assert!(only(resize(Some(1101), 300)).1);
        assert!(!only(resize(Some(10), 300)).1);
    }

    #[test]
    fn where_nothing_is_verified_by_count_the_translated_one_is_held() {
        let resize = |translated| {
            move |support: &mut Support| {
                support.programs.insert("old".to_owned(), counted(None, translated));
            }
        };
        assert!(!only(resize(220)).1);
        assert!(only(resize(221)).1);
        let both = |support: &mut Support| {
            support.programs.insert("old".to_owned(), counted(Some(1), 200));
        };
        assert!(only(both).1);
    }

    #[test]
    fn programs_and_kernels_may_not_come_and_go_unseen() {
        let gone = only(|support| {
            support.programs.remove("sweep");
        });
        assert_eq!(gone, ("sweep vanished, or no longer loads".to_owned(), true));
        let come = |support: &mut Support| {
            support.programs.insert("new".to_owned(), counted(Some(5), 5));
        };
        assert!(only(come).1);
        let mut more = records();
        more.insert(Name::new("6.12"), records()[&Name::new("6.1")].clone());
        for (old, new) in [(records(), more.clone()), (more, records())] {
            let changes = changes(&old, &new);
            assert!(changes.len() == 1 && changes[0].complaint, "{changes:?}");
            assert_eq!(changes[0].kernel, "6.12");
        }
    }

    #[test]
    fn a_hook_that_changed_is_complained_of() {
        let (said, complaint) = only(|support| {
            support.hooks[0].state = "missing".to_owned();
            support.hooks[0].mechanism = "none".to_owned();
            support.hooks[0].reason = "nothing".to_owned();
        });
        assert!(complaint);
        assert_eq!(said, "growth/rss_stat tp_btf attached -> none missing nothing");
        let (said, complaint) = only(|support| support.lower_hooks.clear());
        assert!(complaint);
        assert_eq!(said, "growth/rss_stat (lower rungs) raw_tracepoint attached -> no hook");
        assert!(only(|support| support.facts.fentry = false).1);
        assert!(!only(|support| support.release.push('1')).1);
    }

    #[test]
    fn complaints_are_marked_in_the_table() {
        let mut changes = after(resize(Some(1050), 300));
        changes.extend(after(resize(Some(2000), 300)));
        assert_eq!(
            table(&changes),
            "  6.1  sweep  1000 -> 1050 instructions (+5.0 %)\n\
             ! 6.1  sweep  1000 -> 2000 instructions (+100.0 %)\n"
        );
    }
}
