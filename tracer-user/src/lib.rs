//! rampage watches memory pressure from inside the kernel, names the process that runs away, and
//! says after an OOM kill who really caused it. `docs/architecture.md` has the picture.

pub mod cli;
pub mod command;
pub mod detect;
pub mod enrich;
pub mod event;
pub mod kernel;
pub mod metrics;
pub mod model;
pub mod outbox;
pub mod php;
pub mod pipeline;
pub mod run;
pub mod settings;
pub mod sink;
pub mod source;
pub mod text;
pub mod trace;
