//! Looks into PHP processes from outside: which request, how much of memory_limit, which PHP code.
//! On stock packages, without a change to PHP and without stopping it. Everything that is read is
//! hostile: bounded, checked, and partial answers say what is missing.
//!
//! A [`Looker`] is prepared before there is pressure ([`Looker::prepare`]); [`Looker::look`] then
//! takes a few system calls.

mod elf;
mod layout;
mod look;
pub mod looker;
mod names;
mod query;
mod remote;
mod request;
mod scoreboard;
mod stack;
pub mod target;
pub mod usdt;
pub mod who;

pub use crate::event::look::{Activity, Frame, Look, Memory, Missing, Part, Reason, Request};
pub use looker::{LookOptions, Looker};
pub use names::Names;
pub use request::Disclosure;
pub use target::Target;
pub use who::{Role, Who};
