//! Where events come from. All sources feed the same pipeline: the kernel ([`live`]), polling
//! ([`procfs`]) or a trace file ([`replay`]).

pub mod live;
mod looks;
pub mod procfs;
pub mod replay;

use crate::event::Stamped;

/// What a source says after it was asked for events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More may come.
    More,
    /// Nothing will come; the reason goes into the `end` event.
    Ended(&'static str),
}

/// Gives events in the order of their time. The first one is the header.
pub trait Source {
    /// Waits until there is something, and appends it to `out`. Dropping the future before it is
    /// done loses nothing.
    fn next(
        &mut self,
        out: &mut Vec<Stamped>,
    ) -> impl std::future::Future<Output = anyhow::Result<Flow>>;

    /// Everything that is still under way when the run ends (the rest of the ring buffer).
    fn finish(&mut self, out: &mut Vec<Stamped>) -> anyhow::Result<()> {
        let _ = out;
        Ok(())
    }
}
