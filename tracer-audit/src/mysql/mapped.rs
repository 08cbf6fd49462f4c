//! What a running server cannot have: a buffer pool that is larger than all memory that it has mapped.
//!
//! For servers that cannot be asked. The pool is writable, private and of no file; so is much else, so the sum
//! of all such mappings bounds it from above, in every version: the pool is one mapping, or one for each
//! 128 MiB.

use std::path::Path;

use crate::root::Root;

/// Sum of the writable private mappings without a file, bytes; None where they may not be seen. Huge pages
/// are files by their name, so that they count as well.
pub fn writable_bytes(root: &Root, tgid: u32) -> Option<u64> {
    let path = format!("/proc/{tgid}/maps");
    let text = root.text(Path::new(&path)).ok().filter(|text| !text.is_empty())?;
    Some(sum(&text))
}

fn sum(maps: &str) -> u64 {
    let sizes = maps.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let mode = fields.next()?;
        let inode = fields.nth(2)?;
        let huge = fields.next().is_some_and(|name| name.starts_with("/anon_hugepage"));
        if !mode.starts_with("rw") || (inode != "0" && !huge) {
            return None;
        }
        let address = |text| u64::from_str_radix(text, 16).ok();
        address(end)?.checked_sub(address(start)?)
    });
    sizes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_pool_could_be_counts() {
        let maps = "\
55d0c0000000-55d0c1000000 r-xp 00000000 fe:00 42 /usr/sbin/mariadbd
55d0d0000000-55d0d0100000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0008000000 rw-p 00000000 00:00 0 \n\
7f0008000000-7f8000000000 ---p 00000000 00:00 0 \n\
7f8000000000-7f8000200000 rw-p 00000000 00:0f 77 /anon_hugepage (deleted)
7f9000000000-7f9000001000 rw-p 00000000 fe:00 9 /lib/libc.so.6
broken\n";
        assert_eq!(sum(maps), (1 << 20) + (128 << 20) + (2 << 20));
    }

    #[test]
    fn this_process_maps_something() {
        let root = Root::new(Path::new("/")).unwrap();
        assert!(writable_bytes(&root, std::process::id()).unwrap() > 1 << 16);
        assert_eq!(writable_bytes(&root, u32::MAX), None);
    }
}
