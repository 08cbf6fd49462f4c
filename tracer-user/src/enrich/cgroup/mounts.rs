//! /proc/TGID/mountinfo: which mounts show the memory controller.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{Hierarchy, Version};

/// No cgroup file system is mounted here.
#[derive(Debug, thiserror::Error)]
#[error("no cgroup hierarchy with the memory controller is mounted")]
pub struct NotMounted;

/// Mounts in the order of preference: v1 with the memory controller, then v2; of each those that
/// show the whole hierarchy first.
pub fn candidates(mountinfo: &[u8]) -> Vec<Hierarchy> {
    let mut found: Vec<_> =
        mountinfo.split(|byte| *byte == b'\n').filter_map(hierarchy_of).collect();
    found.sort_by_key(|hierarchy| (hierarchy.version == Version::V2, hierarchy.root.len()));
    found
}

/// `id parent major:minor root mount options [optional …] - type source super-options`.
fn hierarchy_of(line: &[u8]) -> Option<Hierarchy> {
    let mut words = line.split(|byte| *byte == b' ');
    let root = words.nth(3)?;
    let mount = words.next()?;
    let mut rest = words.skip_while(|word| *word != b"-").skip(1);
    let version = match (rest.next()?, rest.nth(1)?) {
        (b"cgroup2", _) => Version::V2,
        (b"cgroup", options)
            if options.split(|byte| *byte == b',').any(|option| option == b"memory") =>
        {
            Version::V1
        }
        _ => return None,
    };
    Some(Hierarchy {
        version,
        mount: OsString::from_vec(unescape(mount)).into(),
        root: String::from_utf8_lossy(&unescape(root)).into_owned(),
    })
}

/// Blanks and backslashes are written as three octal digits.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn summary(mountinfo: &str) -> Vec<(Version, String, String)> {
        let found = candidates(mountinfo.as_bytes());
        found.into_iter().map(|h| (h.version, h.mount.display().to_string(), h.root)).collect()
    }

    #[test]
    fn v1_memory_wins_on_hybrid_hosts() {
        let hybrid = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=memory
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:3 master:1 - cgroup cgroup rw,cpu,memory
";
        let expected = [
            (Version::V1, "/sys/fs/cgroup/memory".to_owned(), "/".to_owned()),
            (Version::V2, "/sys/fs/cgroup/unified".to_owned(), "/".to_owned()),
        ];
        assert_eq!(summary(hybrid), expected);
    }

    #[test]
    fn containers_show_a_part_and_blanks_are_escaped() {
        let container = "\
9 8 0:29 /docker/ab\\040c /sys/fs/cgroup ro - cgroup2 cgroup rw
9 8 0:29 / /mnt/all\\134\\011x rw - cgroup2 cgroup rw";
        let expected = [
            (Version::V2, "/mnt/all\\\tx".to_owned(), "/".to_owned()),
            (Version::V2, "/sys/fs/cgroup".to_owned(), "/docker/ab c".to_owned()),
        ];
        assert_eq!(summary(container), expected);
    }

    #[test]
    fn odd_lines_are_passed_over() {
        for line in ["", "-", "1 2 3 / /m rw", "1 2 3 / /m rw -", "1 2 3 / /m rw - cgroup2 x"] {
            assert_eq!(summary(line), [], "{line}");
        }
        assert_eq!(unescape(b"\\04"), b"\\04");
        assert_eq!(unescape(b"\\999a\\"), b"\\999a\\");
        let raw = hierarchy_of(b"1 2 3 / /m\xff rw - cgroup2 x rw").unwrap();
        assert_ne!(raw.mount, Path::new("/m"));
    }
}
