//! systemd's units of PHP-FPM, databases and web servers: what bounds them, what starts them again, and what
//! takes them down.

pub mod lines;
pub mod load;
pub mod search;
pub mod settings;
pub mod values;

use crate::Context;
use crate::budget::Demand;
use crate::origin::Notes;
use crate::processes::Process;
use crate::report::Finding;
use crate::root::Root;

/// What the files and processes say.
#[derive(Clone, Debug, Default)]
pub struct Facts {}

/// Reads them.
pub fn read(_root: &Root, _processes: &[Process], _notes: &mut Notes) -> Facts {
    Facts::default()
}

/// What each of them takes at worst.
pub fn demands(_context: &Context<'_>) -> Vec<Demand> {
    Vec::new()
}

/// What is wrong.
pub fn judge(_context: &Context<'_>) -> Vec<Finding> {
    Vec::new()
}
