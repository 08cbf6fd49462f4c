//! As much of ELF as tells a static program from a dynamic one.

use anyhow::{Context, bail, ensure};

const PT_INTERP: u32 = 3;

/// Whether a 64-bit little-endian ELF program asks for a dynamic loader (has PT_INTERP). A
/// static-pie program does not.
pub fn wants_loader(elf: &[u8]) -> anyhow::Result<bool> {
    ensure!(elf.starts_with(b"\x7fELF"), "not an ELF file");
    if elf.get(4..6) != Some(&[2, 1]) {
        bail!("an ELF file, but not 64-bit little-endian");
    }
    let table = usize::try_from(u64::from_le_bytes(field(elf, 32)?))?;
    let entry = usize::from(u16::from_le_bytes(field(elf, 54)?));
    let entries = usize::from(u16::from_le_bytes(field(elf, 56)?));
    for index in 0..entries {
        let at = table.checked_add(index * entry).context("program headers out of range")?;
        if u32::from_le_bytes(field(elf, at)?) == PT_INTERP {
            return Ok(true);
        }
    }
    Ok(false)
}

fn field<const N: usize>(elf: &[u8], at: usize) -> anyhow::Result<[u8; N]> {
    elf.get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .with_context(|| format!("ELF file cut before byte {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(kinds: &[u32]) -> Vec<u8> {
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = u8::try_from(kinds.len()).unwrap();
        for kind in kinds {
            elf.extend(kind.to_le_bytes());
            elf.extend([0; 52]);
        }
        elf
    }

    #[test]
    fn a_loader_is_found_anywhere_in_the_table() {
        assert!(wants_loader(&program(&[6, 1, 3])).unwrap());
        assert!(!wants_loader(&program(&[6, 1, 2])).unwrap());
        assert!(!wants_loader(&program(&[])).unwrap());
    }

    #[test]
    fn damaged_files_are_errors() {
        assert!(wants_loader(b"#!/bin/sh").is_err());
        assert!(wants_loader(b"\x7fELF").is_err());
        let whole = program(&[6, 1]);
        assert!(wants_loader(&whole[..100]).is_err());
        let mut far = whole;
        far[32..40].fill(0xff);
        assert!(wants_loader(&far).is_err());
    }
}
