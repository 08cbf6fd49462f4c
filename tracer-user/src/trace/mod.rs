//! The trace format on its own, without files: [`lines`] turns events into lines and back.

pub mod lines;
