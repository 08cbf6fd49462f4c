//! The trace format on its own: [`lines`] turns events into lines and back, [`segment`] names the files
//! of a run that is recorded in several.

pub mod lines;
pub mod segment;
