//! The courier as a process, between a tracer and receivers that are played by these tests.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod command;
mod endpoint;
mod journal;
mod otlp;
mod outbox;
mod tracer;
mod web;
mod webhook;
