//! `cargo xtask dist`: `target/dist`, all that a host needs: static binaries, manual pages, completions,
//! a sample of the settings, and a Debian package of them.

mod binary;
mod deb;
mod folder;
mod image;
mod texts;
mod trial;

use std::fs;
use std::path::Path;

use anyhow::Context;

use self::binary::{COURIER, RAMPAGE};
use crate::setup;
use crate::toolchain::Rustc;
use crate::workspace::Workspace;

/// Shown by `cargo xtask dist --help`.
pub const EXAMPLES: &str = "\
Examples:
  cargo xtask dist            target/dist/rampage_*.deb, and the files in it
  cargo xtask dist --test     then installs, upgrades, removes and purges it in a Debian folder, and builds and
                              runs the container image (root)";

/// Arguments of `cargo xtask dist`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    /// Then try the Debian package, in a folder with a Debian of its own, and the container image
    #[arg(long)]
    test: bool,
}

/// Builds, checks and lays out `target/dist`, replacing what was there.
pub fn execute(workspace: &Workspace, args: Args) -> anyhow::Result<()> {
    setup::execute(workspace)?;
    let rustc = Rustc::probe(workspace)?;
    // One after the other: built together, the tracer would get what its dependencies are for the courier.
    let rampage = binary::build(workspace, &rustc, &RAMPAGE)?;
    let courier = binary::build(workspace, &rustc, &COURIER)?;

    let dist = workspace.target.join("dist");
    let scratch = workspace.target.join("dist.new");
    remove(&scratch)?;
    fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
    let pages = texts::write(&rampage.path, &scratch)?;
    let package = deb::Recipe::new(workspace, &rustc, &scratch)?;
    let deb = package.make(deb::VERSION)?;
    for built in [&rampage, &courier] {
        let to = scratch.join(built.name);
        fs::copy(&built.path, &to).with_context(|| format!("writing {}", to.display()))?;
    }
    let tried = args.test.then(|| {
        trial::run(workspace, &package, &deb)?;
        image::run(workspace, &scratch)
    });
    remove(&dist)?;
    fs::rename(&scratch, &dist).with_context(|| format!("creating {}", dist.display()))?;
    tried.transpose()?;

    for built in [&rampage, &courier] {
        let mebibytes = built.bytes as f64 / f64::from(1 << 20);
        println!("{}: {mebibytes:.2} MiB, static, stripped", dist.join(built.name).display());
    }
    println!("{}: {pages} manual pages, completions for bash, zsh and fish", dist.display());
    let name = deb.file_name().context("the package has no name")?;
    println!("{}", dist.join(name).display());
    Ok(())
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}
