//! Time lost in reclaim, against a writer whose page cache is more than its memory cgroup may hold.

use anyhow::Result;
use rampage::event::Event;
use tests::cgroup::MemoryCgroup;
use tests::needs;
use tests::writer::Written;

const MIB: u64 = 1 << 20;

#[test]
fn a_writer_beyond_its_limit_is_stalled_and_says_how_long() -> Result<()> {
    needs!(Btf);
    let cgroup = MemoryCgroup::new("stalls", 64 * MIB)?;
    let written = Written::in_cgroup(&cgroup)?;
    written.assert_stalled(&cgroup);
    let Written { trace, tgid, lived_ns } = written;
    // What a growth event says holds the stalls that were too short for an event as well.
    let mut until_ns = 0;
    let mut compared = 0;
    for line in &trace.lines {
        match &line.event {
            Event::Stall(stall) if stall.tgid == tgid => until_ns += stall.duration_ns,
            Event::Growth(growth) if growth.tgid == tgid => {
                let said_ns = growth.stall_ns;
                assert!((until_ns..=lived_ns).contains(&said_ns), "{said_ns} of {until_ns} ns");
                compared += u32::from(until_ns > 0);
            }
            _ => {}
        }
    }
    println!("{compared} reports of growth after the first stall");
    Ok(())
}
