//! The table: a row a scenario, then sums.

use tests::scenario::others::Other;
use tests::scenario::score::Score;

use crate::play::Row;

const HEAD: &str = "\
subject named before the harm (yes, NO, - = nobody to name), its lead in % of the time from onset to \
harm, false alarms;\nearlyoom looks at the whole host only; threshold: 85 % of the limit; polling: \
resident memory each second";

/// Prints it.
pub fn print(rows: &[Row]) {
    println!("{HEAD}\n");
    println!(
        "{:<26} {:^16} {:^16} {:^16} {:^16} {:>7} {:>6}  result",
        "scenario", "rampage", "earlyoom", "threshold", "polling", "verdict", "killer"
    );
    for row in rows {
        let Some(score) = &row.score else {
            println!("{:<26} {}", row.name, row.outcome());
            continue;
        };
        let own = Other {
            named: score.named,
            lead_share: score.lead_share,
            false_alarms: score.false_alarms.len(),
        };
        let cells: Vec<String> = [own].iter().chain(&row.others).map(cell).collect();
        println!(
            "{:<26} {} {:>7} {:>6}  {}",
            row.name,
            cells.join(" "),
            answer(score.verdict),
            answer(score.killer),
            row.outcome()
        );
    }
    let all: Vec<&Row> = rows.iter().collect();
    let rules: Vec<&Row> = rows.iter().filter(|row| row.is_for_rules).collect();
    println!();
    sums("half \"rules\"", &rules);
    sums("all", &all);
}

fn cell(other: &Other) -> String {
    let lead = other.lead_share.map_or("-".to_owned(), |share| format!("{:.0}%", share * 100.0));
    format!("{:>5} {lead:>5} {:>4}", answer(other.named), other.false_alarms)
}

fn answer(holds: Option<bool>) -> &'static str {
    match holds {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "-",
    }
}

fn sums(title: &str, rows: &[&Row]) {
    let played: Vec<(&&Row, &Score)> =
        rows.iter().filter_map(|row| Some((row, row.score.as_ref()?))).collect();
    let skipped = rows.iter().filter(|row| row.skipped.is_some()).count();
    let ok = played.iter().filter(|(_, score)| score.is_ok()).count();
    println!("{title}: {ok} of {} ok, {skipped} skipped", rows.len() - skipped);
    let to_name: Vec<_> = played.iter().filter(|(_, score)| score.named.is_some()).collect();
    let others = ["earlyoom", "threshold", "polling"].into_iter().enumerate();
    let own = to_name.iter().map(|(_, score)| (score.named, score.lead_share)).collect();
    let wrong = played.iter().map(|(_, score)| score.false_alarms.len()).sum();
    said("rampage", own, wrong);
    for (at, name) in others {
        let theirs =
            to_name.iter().map(|(row, _)| (row.others[at].named, row.others[at].lead_share));
        let wrong = played.iter().map(|(row, _)| row.others[at].false_alarms).sum();
        said(name, theirs.collect(), wrong);
    }
    let count = |what: fn(&Score) -> Option<bool>| {
        let answers: Vec<bool> = played.iter().filter_map(|(_, score)| what(score)).collect();
        (answers.iter().filter(|holds| **holds).count(), answers.len())
    };
    let (verdicts, killers) = (count(|score| score.verdict), count(|score| score.killer));
    println!(
        "  verdicts right {} of {}, killers right {} of {}",
        verdicts.0, verdicts.1, killers.0, killers.1
    );
}

fn said(name: &str, answers: Vec<(Option<bool>, Option<f64>)>, false_alarms: usize) {
    let named = answers.iter().filter(|(named, _)| *named == Some(true)).count();
    let mut leads: Vec<f64> = answers.iter().map(|(_, lead)| lead.unwrap_or(0.0)).collect();
    leads.sort_by(f64::total_cmp);
    let median = leads.get(leads.len() / 2).map_or(0.0, |lead| lead * 100.0);
    println!(
        "  {name:<10} named {named} of {}, median lead {median:.0} %, false alarms {false_alarms}",
        answers.len()
    );
}
