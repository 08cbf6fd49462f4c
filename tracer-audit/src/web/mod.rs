//! nginx and Apache: how many requests they admit, against what PHP can take; and mod_php, which makes each
//! worker of Apache a worker of PHP.

pub mod apache;
#[cfg(test)]
mod fuzz;
mod include;
pub mod nginx;
mod rules;
pub mod socket;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::Context;
use crate::budget::Demand;
use crate::origin::{Notes, Origin};
use crate::processes::Process;
use crate::report::Finding;
use crate::root::Root;
use apache::Apache;
use nginx::Nginx;

pub use rules::STOCK_BYTES;

/// What the files and processes say.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Apache, if it is installed.
    pub apache: Option<Apache>,
    /// nginx, if it is installed.
    pub nginx: Option<Nginx>,
}

/// Reads them. One that is installed but does not run, where anything runs, is only said.
pub fn read(root: &Root, processes: &[Process], notes: &mut Notes) -> Facts {
    let runs = |server: &str, conf: &Path, running: &[u32], notes: &mut Notes| {
        let idle = running.is_empty() && !processes.is_empty();
        if idle {
            notes.at(Origin::whole(conf), format!("{server} does not run: it is not counted"));
        }
        !idle
    };
    let apache = apache::read(root, processes, notes)
        .filter(|apache| runs("Apache", &apache.conf, &apache.running, notes));
    let nginx = nginx::read(root, processes, notes)
        .filter(|nginx| runs("nginx", &nginx.conf, &nginx.running, notes));
    Facts { apache, nginx }
}

/// What each of them takes at worst.
pub fn demands(context: &Context<'_>) -> Vec<Demand> {
    rules::demands(context)
}

/// What is wrong.
pub fn judge(context: &Context<'_>) -> Vec<Finding> {
    rules::judge(context)
}
