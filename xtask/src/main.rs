//! `cargo xtask`: set-up, build, run, test, lint, bench, verifier, vm and dist, one file (or folder)
//! each.

mod bench;
mod build;
mod debian;
mod dist;
mod elf;
mod exec;
mod linker;
mod lint;
mod platform;
mod run;
mod setup;
mod support;
mod test;
mod tool;
mod toolchain;
mod vm;
mod workspace;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Sets up, builds, runs and tests rampage. Every command does what is missing of `setup` first.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the build needs and is missing: Rust components, bpf-linker, Debian packages
    Setup,
    /// Build target/release/rampage and rampage-courier
    Build,
    /// Build, then run `rampage watch` on this host, through sudo when not root
    #[command(after_help = run::EXAMPLES)]
    Run {
        /// Flags of `watch`, or another command of rampage with its flags
        #[arg(last = true)]
        args: Vec<std::ffi::OsString>,
    },
    /// Pass everything: rustfmt, clippy, unit tests, kernel tests, PHP tests (as root)
    Test,
    /// rustfmt, clippy for the host and for BPF, a check for the other architecture, rustdoc
    Lint,
    /// Measure; without a name, everything
    Bench {
        /// What to measure
        #[arg(value_enum)]
        which: Option<bench::Which>,
        /// Arguments of the benchmark
        #[arg(last = true)]
        args: Vec<std::ffi::OsString>,
    },
    /// Run the kernel tests in real kernels, from 5.10 to the newest, in QEMU
    #[command(after_help = vm::EXAMPLES)]
    Vm(vm::Args),
    /// Hold each kernel\'s verifier counts and hooks against those in tests/kernels: no program grew
    /// by more than 10 %, and every hook is attached as before
    Verifier(vm::VerifierArgs),
    /// Make target/dist: stripped static binaries, manual pages, completions, a Debian package
    #[command(after_help = dist::EXAMPLES)]
    Dist(dist::Args),
}

fn main() -> std::process::ExitCode {
    let outcome = Workspace::find().and_then(|workspace| match Cli::parse().command {
        Command::Setup => setup::execute(&workspace),
        Command::Build => build::execute(&workspace, build::Courier::Wanted),
        Command::Run { args } => run::execute(&workspace, &args),
        Command::Test => test::execute(&workspace),
        Command::Lint => lint::execute(&workspace),
        Command::Bench { which, args } => bench::execute(&workspace, which, &args),
        Command::Vm(args) => vm::execute(&workspace, &args),
        Command::Verifier(args) => vm::verifier(&workspace, &args),
        Command::Dist(args) => dist::execute(&workspace, args),
    });
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
