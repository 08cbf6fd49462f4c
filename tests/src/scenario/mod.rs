//! Scenarios: what really happens in a bounded cgroup, with the truth about it written down, so that
//! what rampage said can be scored. `tests/scenarios/*.toml` are read by [`spec`], set up and run by
//! [`stage`] and [`run`], and judged by [`score`], from a live run as well as from a recorded
//! [`fixture`].

pub mod actor;
pub mod cast;
pub mod facts;
pub mod fixture;
pub mod others;
pub mod run;
pub mod said;
pub mod sample;
pub mod score;
mod server;
pub mod spec;
mod stage;
mod thin;
mod timeline;
pub mod truth;
