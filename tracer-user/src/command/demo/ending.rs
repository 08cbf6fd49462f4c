//! What the demo has shown, in the end: with the measured lead time, or honestly what was missing.

use anyhow::bail;

use super::role::BYSTANDER_MIB;
use super::story::Seen;
use crate::cli::DemoRole;

/// The closing explanation; an error says what did not come about.
pub fn explain(seen: &Seen, limit_s: u64) -> anyhow::Result<String> {
    let (bystander, leaker) = (DemoRole::Bystander.comm(), DemoRole::Leaker.comm());
    let Some(killed_ns) = seen.killed_ns else {
        bail!("no OOM kill came within {limit_s} s: nothing was proven (the cgroup was removed)");
    };
    let Some(verdict) = &seen.verdict else {
        bail!("the OOM killer struck, but no verdict followed");
    };
    let Some(culprit) = &verdict.culprit else {
        bail!("the verdict names no single culprit; it should have named {leaker}");
    };
    if &*culprit.comm != leaker {
        bail!("the verdict names {} instead of {leaker}", culprit.comm.escape_debug());
    }
    let Some(warning) = seen.warning else {
        bail!("the verdict is right, but no warning named {leaker} before the kill");
    };
    let lead_s = killed_ns.saturating_sub(warning.t_ns) as f64 / 1e9;
    let killed = match verdict.victims.first() {
        Some(victim) if &*victim.comm == bystander => {
            format!("The kernel killed {bystander}, which had held still at {BYSTANDER_MIB} MiB")
        }
        Some(victim) => format!("The kernel killed {}", victim.comm.escape_debug()),
        None => "The kernel killed somebody".to_owned(),
    };
    Ok(format!(
        "rampage warned {lead_s:.1} s before the kill (its estimate then: {:.1} s left) and named \
         {leaker} ({}).\n{killed}; rampage blames {leaker}, which had grown by {} MiB. The cgroup \
         and both processes are gone.",
        warning.eta_s,
        culprit.tgid,
        culprit.grown_bytes >> 20,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::story::Warning;
    use super::*;
    use crate::event::{Cascade, Culprit, OomScope, Party, ScopeKind, Verdict, Victim};

    fn seen(culprit: Option<&str>) -> Seen {
        let comm = DemoRole::Bystander.comm();
        let victim = Victim {
            tgid: 1,
            start_ns: 0,
            comm: comm.into(),
            cgroup: None,
            anon_bytes: 100 << 20,
            file_bytes: 0,
            shmem_bytes: 0,
            swap_bytes: 0,
            oom_score_adj: 1000,
        };
        let culprit = culprit.map(|comm| Culprit {
            tgid: 2,
            start_ns: 0,
            comm: comm.into(),
            pool: None,
            grown_bytes: 150 << 20,
            share: 1.0,
            window_s: 60.0,
            request: None,
        });
        Seen {
            warning: Some(Warning { t_ns: 2_000_000_000, eta_s: 5.0 }),
            killed_ns: Some(7_200_000_000),
            verdict: Some(Verdict {
                victims: vec![victim],
                trigger: Party { tgid: 2, start_ns: 0, comm: "x".into(), cgroup: None },
                culprit,
                grown_in_window: Vec::new(),
                grown_since_seen: Vec::new(),
                window_s: 60.0,
                limit: OomScope { kind: ScopeKind::Memcg, cgroup: None, limit_bytes: None },
                cascade: Cascade::default(),
                next_victim: None,
            }),
        }
    }

    #[test]
    fn the_lead_time_is_measured() {
        let text = explain(&seen(Some("demo-leaker")), 25).unwrap();
        assert!(text.contains("warned 5.2 s before the kill (its estimate then: 5.0 s"), "{text}");
        assert!(text.contains("killed demo-bystander") && text.contains("150 MiB"), "{text}");
    }

    #[test]
    fn what_is_missing_is_said() {
        let error = |seen: &Seen| explain(seen, 25).unwrap_err().to_string();
        assert!(error(&Seen::default()).contains("no OOM kill came within 25 s"));
        assert!(error(&seen(None)).contains("no single culprit"));
        assert!(error(&seen(Some("demo-bystander"))).contains("names demo-bystander instead"));
        let unwarned = Seen { warning: None, ..seen(Some("demo-leaker")) };
        assert!(error(&unwarned).contains("no warning"));
        let unjudged = Seen { verdict: None, ..seen(None) };
        assert!(error(&unjudged).contains("no verdict"));
    }
}
