//! The `rampage-courier` binary: takes findings and metrics of the tracer to those who want them.

fn main() -> anyhow::Result<()> {
    Ok(())
}
