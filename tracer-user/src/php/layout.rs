//! Where PHP keeps what a look needs: offsets by version, for 64-bit builds without thread safety
//! (NTS). Sources: php-src Zend/zend_globals.h, zend_compile.h, zend_alloc.c, main/SAPI.h,
//! main/php_globals.h and main/fastcgi.c of each version. 7.4, 8.2 and 8.4 were compared with
//! Debian's builds as they ran; 8.0, 8.1, 8.3 and 8.5 are by the sources alone.

use std::fmt;

/// `8.2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 7 or 8.
    pub major: u8,
    /// 0 to 5.
    pub minor: u8,
}

impl Version {
    /// Of `8.2.36`, `8.4.0RC1`, `7.4`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(|c: char| !c.is_ascii_digit());
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some(Self { major, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

/// Offsets that differ between versions, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// executor_globals.current_execute_data. The three words from 32 before it on are
    /// vm_stack_top, vm_stack_end and vm_stack.
    pub current_execute_data: u64,
    /// zend_op_array.filename; line_start and line_end follow it.
    pub filename: u64,
    /// zend_mm_heap.real_size; real_peak and limit follow it.
    pub heap_real_size: u64,
}

/// Of each version that is known.
const LAYOUTS: [(Version, Layout); 7] = [
    row(7, 4, 488, 136, 0x110),
    row(8, 0, 488, 144, 0x110),
    row(8, 1, 488, 144, 0x110),
    row(8, 2, 488, 152, 0x110),
    row(8, 3, 488, 144, 0x110),
    row(8, 4, 488, 168, 0x118),
    row(8, 5, 512, 168, 0x118),
];

const fn row(major: u8, minor: u8, ced: u64, filename: u64, real: u64) -> (Version, Layout) {
    let layout = Layout { current_execute_data: ced, filename, heap_real_size: real };
    (Version { major, minor }, layout)
}

/// The layout of a version; None = not known.
pub fn of(version: Version) -> Option<Layout> {
    LAYOUTS.iter().find(|(known, _)| *known == version).map(|(_, layout)| *layout)
}

/// sapi_globals_struct.
pub mod sapi {
    pub const SERVER_CONTEXT: usize = 0;
    pub const METHOD: usize = 8;
    pub const PATH_TRANSLATED: usize = 40;
    pub const URI: usize = 48;
    pub const STARTED: usize = 436;
    pub const REQUEST_TIME: usize = 440;
    pub const BYTES: usize = 448;
}

/// zend_mm_heap.
pub mod heap {
    pub const USE_CUSTOM: usize = 0;
    pub const SIZE: usize = 16;
}

/// zend_execute_data.
pub mod frame {
    pub const OPLINE: usize = 0;
    pub const FUNC: usize = 24;
    pub const PREV: usize = 48;
    pub const BYTES: usize = 56;
}

/// zend_function, and what it points to.
pub mod function {
    /// type, function_name and scope.
    pub const HEAD_BYTES: usize = 24;
    pub const NAME: usize = 8;
    pub const SCOPE: usize = 16;
    /// ZEND_INTERNAL_FUNCTION.
    pub const INTERNAL: u8 = 1;
    /// ZEND_USER_FUNCTION.
    pub const USER: u8 = 2;
    /// ZEND_EVAL_CODE.
    pub const EVAL: u8 = 4;
    /// zend_class_entry.name.
    pub const CLASS_NAME: u64 = 8;
    /// zend_op.lineno.
    pub const LINE: u64 = 24;
}

/// zend_string.
pub mod string {
    pub const TYPE_INFO: usize = 4;
    pub const LENGTH: usize = 16;
    pub const VALUE: usize = 24;
    /// IS_STRING, in the low four bits of the type.
    pub const TYPE: u32 = 6;
}

/// fcgi_request (built with TCP_NODELAY, as on every Linux) and its table of parameters.
pub mod fcgi {
    /// fcgi_request.env.buckets, behind a hash table of 128 pointers and the head of the list.
    pub const BUCKETS: u64 = 8296 + 128 * 8 + 8;
    /// Buckets in a block.
    pub const BLOCK: usize = 128;
    /// Before the buckets of a block: how many are in use, the next block.
    pub const HEAD_BYTES: usize = 16;
    pub const BUCKET_BYTES: usize = 48;
    pub const HASH: usize = 0;
    pub const NAME_LENGTH: usize = 4;
    pub const NAME: usize = 8;
    pub const VALUE_LENGTH: usize = 16;
    pub const VALUE: usize = 24;
}

/// What apache's mod_php points to: php_struct.r, and request_rec of httpd 2.4 (the ABI is kept
/// within 2.4: include/httpd.h).
pub mod apache {
    pub const REQUEST_REC: u64 = 8;
    /// the_request: `GET /path?query HTTP/1.1`.
    pub const THE_REQUEST: usize = 48;
    pub const HOSTNAME: usize = 80;
    /// Microseconds since 1970.
    pub const REQUEST_TIME: usize = 88;
    pub const BYTES: usize = 96;
}

/// fpm_scoreboard_proc_s.
pub mod scoreboard {
    pub const USED: usize = 16;
    pub const START_EPOCH: usize = 24;
    pub const TGID: usize = 32;
    pub const REQUESTS: usize = 40;
    pub const STAGE: usize = 48;
    pub const ACCEPTED_S: usize = 56;
    pub const ACCEPTED_US: usize = 64;
    pub const BYTES: usize = 72;
    /// Waiting for a connection.
    pub const ACCEPTING: u32 = 1;
    /// The script has ended.
    pub const END: u32 = 5;
    /// The connection is closed.
    pub const FINISHED: u32 = 6;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_php_calls_itself() {
        let of = |text| Version::parse(text).map(|version| version.to_string());
        assert_eq!(of("8.2.36").as_deref(), Some("8.2"));
        assert_eq!(of("8.4.0RC1").as_deref(), Some("8.4"));
        assert_eq!(of("7.4-dev").as_deref(), Some("7.4"));
        for bad in ["", "8", "8.", "x.y", "999.1", "8.999"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_version_from_7_4_to_8_5_is_known_and_no_other() {
        let known = |major, minor| super::of(Version { major, minor }).is_some();
        assert!(known(7, 4) && (0..=5).all(|minor| known(8, minor)));
        assert!(!known(7, 3) && !known(8, 6) && !known(9, 0));
    }
}
