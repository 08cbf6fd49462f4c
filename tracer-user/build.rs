//! Builds the kernel programs for the BPF target and puts the object where `include_bytes!` finds
//! it: `$OUT_DIR/tracer-ebpf.o`.
//!
//! A second cargo does the work, in a target folder of its own below `OUT_DIR`, so that the two
//! never wait for each other's lock. It runs only when one of the inputs named in [`INPUTS`], the
//! linker or `BPF_LINKER` changed. The pinned stable compiler builds `core` for the target with
//! `RUSTC_BOOTSTRAP=1`. aya-build 0.2 is not used: it wants that variable in the environment of the
//! whole build, goes through `rustup run`, shows the inner cargo's progress as warnings, and does
//! not see a change of linker, lock file or toolchain.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::{Context, anyhow, bail};
use object::build::elf;

/// What the object depends on, relative to the workspace.
const INPUTS: [&str; 4] = ["tracer-ebpf", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];

/// What the outer build set for the host (wrappers of clippy and sccache, flags, a target) and must
/// not reach the BPF build.
const HOST_ONLY: [&str; 8] = [
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_BUILD_DIR",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in format!("{error:#}").lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> anyhow::Result<()> {
    let workspace = PathBuf::from(var("CARGO_MANIFEST_DIR")?)
        .parent()
        .map(Path::to_path_buf)
        .context("tracer-user lies outside of its workspace: build it from the whole repository")?;
    let out = PathBuf::from(var("OUT_DIR")?);
    for input in INPUTS {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    println!("cargo::rerun-if-env-changed=BPF_LINKER");
    let linker = linker(&out)?;
    println!("cargo::rerun-if-changed={}", linker.display());

    let object = compile(&workspace, &out.join("ebpf"), &linker)?;
    let embedded = out.join("tracer-ebpf.o");
    let linked = fs::read(&object).with_context(|| format!("reading {}", object.display()))?;
    let kept = without_debug(&linked).with_context(|| format!("reading {}", object.display()))?;
    fs::write(&embedded, kept).with_context(|| format!("writing {}", embedded.display()))?;
    Ok(())
}

/// Leaves out DWARF, from which the linker has made the BTF: nobody reads it, and it would be 2.5 MiB of
/// every tracer's memory.
fn without_debug(linked: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut elf = elf::Builder::read(linked)?;
    for section in &mut elf.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    elf.delete_orphans();
    // The linker keeps the names of sections among those of symbols; what writes the file does not.
    let names = elf.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = elf::SectionData::SectionString;
    let mut kept = Vec::new();
    elf.write(&mut kept)?;
    Ok(kept)
}

/// Runs the inner cargo; gives the path of the BPF object.
fn compile(workspace: &Path, target_dir: &Path, linker: &Path) -> anyhow::Result<PathBuf> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").context("CARGO_CFG_TARGET_ARCH")?;
    let big = env::var("CARGO_CFG_TARGET_ENDIAN").is_ok_and(|endian| endian == "big");
    let target = if big { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
    let linker_of_target =
        format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    let arch_cfg = format!("--cfg=bpf_target_arch=\"{arch}\"");
    let flags = ["-Cdebuginfo=2", "-Clink-arg=--btf", &arch_cfg].join("\x1f");

    let mut cargo = Command::new(var("CARGO")?);
    cargo
        .current_dir(workspace)
        .args(["build", "--release", "--package", "tracer-ebpf", "--bins", "-Z", "build-std=core"])
        .args(["--target", target, "--target-dir"])
        .arg(target_dir)
        .env("RUSTC_BOOTSTRAP", "1")
        .env(linker_of_target, linker)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none");
    for name in HOST_ONLY {
        cargo.env_remove(name);
    }
    let status =
        cargo.status().with_context(|| format!("cannot start {:?}", cargo.get_program()))?;
    if !status.success() {
        bail!(
            "building the kernel programs for {target} failed ({status}): the reason stands above. \
             If rust-src, `core` or the linker is what is missing, run `cargo xtask setup`"
        );
    }
    Ok(target_dir.join(target).join("release/tracer-ebpf"))
}

/// bpf-linker: `$BPF_LINKER`, or where `cargo xtask setup` puts it below the target folder.
fn linker(out: &Path) -> anyhow::Result<PathBuf> {
    if let Some(path) = env::var_os("BPF_LINKER") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!(
                "BPF_LINKER names {}, which is no file: correct it, or unset it and run \
                 `cargo xtask setup`",
                path.display()
            );
        }
        return Ok(path);
    }
    out.ancestors()
        .map(|folder| folder.join("tools/bin/bpf-linker"))
        .find(|path| path.is_file())
        .ok_or_else(|| anyhow!("bpf-linker is missing: run `cargo xtask setup` once"))
}

/// What cargo tells every build script.
fn var(name: &str) -> anyhow::Result<OsString> {
    env::var_os(name).with_context(|| format!("{name} is not set: run this through cargo"))
}
