//! The courier: a process without capabilities that `rampage serve` starts. It takes findings to journal,
//! webhooks, commands and OpenTelemetry collectors, and serves the metrics. `docs/alerts.md` has the
//! formats and what is promised.
//!
//! Everything runs on one thread. Each receiver has a bounded queue and a task of its own
//! ([`receiver`]), so that one that hangs costs nothing but its own alerts. What only some receivers
//! need (TLS, HTTP, gRPC) is made when the first alert for one of them comes.
//!
//! There is no filter of system calls: the commands that it runs would inherit it.

pub mod backoff;
pub mod command;
pub mod confine;
pub mod endpoint;
mod http;
pub mod hub;
pub mod journal;
mod names;
pub mod otlp;
pub mod question;
pub mod receiver;
pub mod webhook;

#[cfg(test)]
mod test;

use std::fmt;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use anyhow::Context;
use rampage::kernel::inherit;
use rampage::outbox::spawn::{LINK_FD, LISTEN_FD, LISTEN_VARIABLE};
use rampage::text;

/// Runs as a child of `rampage serve`, until that ends.
pub fn main() -> anyhow::Result<()> {
    let not_alone = "this is started by `rampage serve`, and does nothing by itself";
    let link = inherit::take(LINK_FD).context(not_alone)?;
    let listener = match std::env::var_os(LISTEN_VARIABLE) {
        Some(_) => Some(inherit::take(LISTEN_FD).context(not_alone)?),
        None => None,
    };
    confine::confine();
    run(link.into(), listener)
}

/// Serves the tracer at the other end of `link` until that ends, and the metrics on `listener`.
pub fn run(link: UnixStream, listener: Option<OwnedFd>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(hub::run(link, listener))
}

/// One line to standard error, which is the tracer's: its journal.
pub fn say(line: fmt::Arguments<'_>) {
    let line = line.to_string();
    let _ = writeln!(io::stderr(), "rampage-courier: {}", text::printable(&line));
}
