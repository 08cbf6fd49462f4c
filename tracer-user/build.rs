//! Builds the kernel programs with the pinned toolchain, for embedding with `include_bytes!`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() -> Result<(), String> {
    let var = |name: &str| env::var(name).map_err(|e| format!("{name}: {e}"));
    let workspace = PathBuf::from(var("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(var("OUT_DIR")?);
    let arch = var("CARGO_CFG_TARGET_ARCH")?;
    for input in ["tracer-ebpf", "Cargo.lock", "rust-toolchain.toml"] {
        println!("cargo:rerun-if-changed={}", workspace.join(input).display());
    }
    println!("cargo:rerun-if-env-changed=BPF_LINKER");
    let linker = linker(&out)?;
    println!("cargo:rerun-if-changed={}", linker.display());
    let target = if var("CARGO_CFG_TARGET_ENDIAN")? == "big" { "bpfeb" } else { "bpfel" };
    let target = format!("{target}-unknown-none");
    let mut cargo = Command::new(var("CARGO")?);
    cargo
        .current_dir(&workspace)
        .args(["build", "--release", "--package", "tracer-ebpf", "--bins", "-Z", "build-std=core"])
        .args(["--target", &target, "--target-dir"])
        .arg(out.join("ebpf"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env(format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_")), &linker)
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            ["-Cdebuginfo=2", "-Clink-arg=--btf", &format!("--cfg=bpf_target_arch=\"{arch}\"")]
                .join("\x1f"),
        )
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_LTO", "off");
    // What the outer build set for the host must not reach the BPF build.
    for name in
        ["RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_BUILD_TARGET"]
    {
        cargo.env_remove(name);
    }
    let status = cargo.status().map_err(|e| format!("cargo for {target}: {e}"))?;
    if !status.success() {
        return Err(format!(
            "building tracer-ebpf for {target} failed ({status}); `cargo xtask setup` installs what it needs"
        ));
    }
    let object = out.join("ebpf").join(&target).join("release/tracer-ebpf");
    fs::copy(&object, out.join("tracer-ebpf.o"))
        .map_err(|e| format!("{}: {e}", object.display()))?;
    Ok(())
}

/// bpf-linker: `$BPF_LINKER`, or where `cargo xtask setup` puts it below the target folder.
fn linker(out: &Path) -> Result<PathBuf, String> {
    if let Some(path) = env::var_os("BPF_LINKER") {
        return Ok(path.into());
    }
    out.ancestors()
        .map(|folder| folder.join("tools/bin/bpf-linker"))
        .find(|path| path.exists())
        .ok_or_else(|| "bpf-linker is missing: run `cargo xtask setup` once".to_owned())
}
