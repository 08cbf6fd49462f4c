//! Which PHP function the growth is given to: the one that grows, sampled by the kernel as it does.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use rampage::event::{Event, Evidence, FindingKind, Runaway};
use tests::cgroup::MemoryCgroup;
use tests::needs;
use tests::php::{Manager, PhpFpm};
use tests::tracer::Tracer;

const LIMIT_BYTES: u64 = 160 << 20;
/// The finding comes within this time.
const SOON: Duration = Duration::from_secs(20);

/// The lines that grow in flame.php and in waits.php.
const WIDE: u32 = 8;
const KEEP: u32 = 13;

/// The finding about the worker of one request.
fn growth_of(script: &str) -> Result<Runaway> {
    let cgroup = MemoryCgroup::new("leaks", LIMIT_BYTES)?;
    let fpm = PhpFpm::start(&cgroup, Manager::Static(1))?;
    let tracer = Tracer::watch("")?;
    let (request, worker) = fpm.ask_for_worker("GET", b"/", script)?;
    let line = tracer.wait_for("the finding", SOON, |line| {
        matches!(&line.event, Event::Finding(finding) if finding.kind == FindingKind::Runaway
            && finding.subject.as_ref().is_some_and(|subject| subject.tgid == worker))
    })?;
    drop(request);
    let trace = tracer.finish()?.trace;
    ensure!(trace.lost("php:stacks") == 0 && trace.lost("ring:php_stack") == 0, "samples lost");
    let Event::Finding(finding) = line.event else { bail!("{line:?}") };
    println!("{}", finding.summary);
    match finding.evidence {
        Evidence::Runaway(runaway) => Ok(*runaway),
        other => bail!("{other:?}"),
    }
}

/// Where the growth of a request is spread over two functions, their shares are told: four parts in
/// five are of one. A sample stands for 256 KiB of 20 MiB and more, or for a huge page of 2 MiB: of few
/// samples a share can only be told within three standard deviations.
#[test]
fn shares_of_growth_are_those_of_the_code() -> Result<()> {
    needs!(Btf, PhpFpm);
    let runaway = growth_of("flame.php")?;
    let share = |name: &str| {
        let spot = runaway.php_growth.iter().find(|spot| spot.function.as_deref() == Some(name));
        spot.map_or(0.0, |spot| spot.share)
    };
    let samples: u64 = runaway.php_growth.iter().map(|spot| spot.samples).sum();
    let bound = (3.0 * (0.8 * 0.2 / samples as f64).sqrt()).max(0.1);
    println!("wide {:.3}, narrow {:.3}, bound {bound:.3}", share("wide"), share("Narrow::leak"));
    assert!((share("wide") - 0.8).abs() < bound, "{runaway:#?}");
    assert!((share("Narrow::leak") - 0.2).abs() < bound, "{runaway:#?}");
    assert_eq!(runaway.php_growth[0].line, Some(WIDE));
    Ok(())
}

/// Who grows is named, not who takes the time.
#[test]
fn waiting_is_not_growing() -> Result<()> {
    needs!(Btf, PhpFpm);
    let runaway = growth_of("waits.php")?;
    let worst = &runaway.php_growth[0];
    assert_eq!(worst.function.as_deref(), Some("keep"), "{runaway:#?}");
    assert_eq!(worst.line, Some(KEEP));
    assert!(worst.share > 0.95, "{runaway:#?}");
    Ok(())
}
