//! The `rampage-courier` binary: takes findings and metrics of the tracer to those who want them.

use std::process::ExitCode;

fn main() -> ExitCode {
    match courier::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            courier::say(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
