//! The way out of the tracer: findings and metrics go to the courier, a process without privileges that
//! talks to journal, network and commands, so that neither can reach or stop the pipeline.

pub mod protocol;
