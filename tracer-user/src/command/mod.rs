//! The commands, one file each.

pub mod demo;
pub mod doctor;
pub mod record;
pub mod replay;
pub mod watch;
