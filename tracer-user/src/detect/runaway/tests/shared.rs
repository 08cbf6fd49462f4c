//! Shared memory is charged once.

use super::*;

/// A process maps shared memory, and `readers` others map the same.
fn shared(readers: u32) -> Script {
    let mut script = Script::new();
    for tgid in 1..=1 + readers {
        script.process(tgid, "import", "/web");
        script.size(tgid, 10.0);
    }
    for s in 0..15_u32 {
        let shared = 10.0 * f64::from(s);
        script.wait(1.0);
        for tgid in 1..=1 + readers {
            script.shared_size(tgid, 10.0, shared);
        }
        script.cgroup("/web", 30.0 + shared, 256.0, Some(0.0));
        script.tick();
    }
    script
}

#[test]
fn shared_memory_of_one_process_is_its_growth() {
    let script = shared(0);
    let raised = raised(&script);
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert_eq!(evidence(&raised[0].1).memory, MemoryKind::Shared);
    assert!(
        raised[0].1.summary.starts_with("import (pid 1) grows 10.0 MiB/s in shared memory, has")
    );
}

#[test]
fn shared_memory_of_many_is_charged_once_and_blamed_on_nobody() {
    assert!(raised(&shared(1)).is_empty());
    assert!(raised(&shared(19)).is_empty());
}

#[test]
fn mapping_what_is_charged_already_is_no_growth() {
    let mut script = Script::new();
    script.process(1, "php", "/web");
    script.size(1, 10.0);
    for s in 0..15_u32 {
        script.wait(1.0).shared_size(1, 10.0, 10.0 * f64::from(s));
        script.cgroup("/web", 180.0, 256.0, Some(0.0));
        script.tick();
    }
    assert!(raised(&script).is_empty());
}
