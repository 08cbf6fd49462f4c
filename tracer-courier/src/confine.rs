//! What the courier takes from itself before it reads the first byte: it talks to the network, and
//! whoever takes it over shall have gained little. It stays the user that it is, root as a rule: in the unit
//! nobody can change users, and what it runs would inherit any rules about files.

use caps::CapSet;
use rampage::kernel::protect;
use rustix::mm::{MlockAllFlags, mlockall};

use crate::say;

/// Drops supplementary groups where it may, and all capabilities, also for what it runs, and what could bring
/// them back; ends with the tracer;
/// locks its memory as it is touched, where the limit allows. oom_score_adj stays what was inherited:
/// the host needs its alerts most when memory is short.
pub fn confine() {
    // Takes a capability that the unit does not give, where there are none. This is the only thread yet.
    let _ = rustix::thread::set_thread_groups(&[]);
    // The bounding set first: dropping from it is a privilege, too. Without it there is nothing to drop.
    let _ = caps::clear(None, CapSet::Bounding);
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        if let Err(error) = caps::clear(None, set) {
            say(format_args!("keeps capabilities ({set:?}): {error}"));
        }
    }
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        say(format_args!("what it runs may gain privileges: {error}"));
    }
    // After the capabilities, whose change would undo it.
    protect::die_with_parent();
    let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
}
