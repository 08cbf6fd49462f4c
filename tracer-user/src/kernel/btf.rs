//! The kernel's type information (BTF), as far as it is needed: offsets of members, sizes, values
//! of enums, and what the arguments of a tracepoint are. It is read once, queried, and dropped
//! before memory is locked. Format: <https://docs.kernel.org/bpf/btf.html>.

mod excerpt;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where the running kernel shows its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Larger files are no BTF of a kernel (6.18 has 5.5 MB).
const MAX_BYTES: u64 = 64 << 20;
const MAGIC: u16 = 0xeb9f;
const MAX_NESTING: u32 = 8;
/// `info` of a forward declaration.
const FORWARD: u32 = 7 << 24;

mod kind {
    pub const PTR: u32 = 2;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// Why the kernel's types cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file is not there or cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Reason.
        source: io::Error,
    },
    /// The file is not BTF.
    #[error("{}: not BTF: {what} at byte {at}", path.display())]
    Malformed {
        /// File.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
}

/// What an argument of a tracepoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A pointer to this struct.
    Struct(String),
    /// Another pointer.
    Pointer,
    /// A number.
    Scalar,
}

/// Types of a kernel.
pub struct Btf {
    data: Vec<u8>,
    strings: (usize, usize),
    /// Byte offset of each type; ids start at 1.
    types: Vec<u32>,
}

/// A type's three words.
#[derive(Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    info: u32,
    /// Size, or the type referred to.
    size_or_type: u32,
}

impl Type {
    fn kind(self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    fn count(self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// A typedef or a qualifier of another type.
    fn is_transparent(self) -> bool {
        matches!(
            self.kind(),
            kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG
        )
    }

    /// Bytes after the three words.
    fn tail(self) -> Option<usize> {
        Some(match self.kind() {
            1 | 14 | 17 => 4,
            kind::PTR | 7..=12 | 16 | kind::TYPE_TAG => 0,
            3 => 12,
            kind::STRUCT | kind::UNION | 15 | kind::ENUM64 => self.count() * 12,
            kind::ENUM | kind::FUNC_PROTO => self.count() * 8,
            _ => return None,
        })
    }
}

impl Btf {
    /// Reads the types in `path`.
    pub fn open(path: &Path) -> Result<Self, BtfError> {
        let read = |source| BtfError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        let size = file.metadata().map_err(read)?.len().min(MAX_BYTES);
        let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        file.take(MAX_BYTES).read_to_end(&mut data).map_err(read)?;
        Self::parse(data, path)
    }

    /// Takes types from bytes; `path` is for messages.
    pub fn parse(data: Vec<u8>, path: &Path) -> Result<Self, BtfError> {
        let bad = |what, at| BtfError::Malformed { path: path.to_owned(), what, at };
        let word = |at: usize| u32_at(&data, at).ok_or_else(|| bad("cut short", at));
        let first = word(0)?;
        if first as u16 != MAGIC {
            return Err(bad("wrong magic", 0));
        }
        let header = word(4)? as usize;
        let section = |offset: usize, length: usize| -> Result<(usize, usize), BtfError> {
            let start = header.checked_add(word(offset)? as usize);
            let end = start.and_then(|start| start.checked_add(word(length).ok()? as usize));
            match (start, end) {
                (Some(start), Some(end)) if end <= data.len() => Ok((start, end)),
                _ => Err(bad("section out of bounds", offset)),
            }
        };
        let (mut at, end) = section(8, 12)?;
        let strings = section(16, 20)?;
        let mut types = Vec::with_capacity((end - at) / 24);
        while at < end {
            let kind = type_at(&data, at).ok_or_else(|| bad("cut type", at))?;
            let tail = kind.tail().ok_or_else(|| bad("unknown kind of type", at))?;
            types.push(u32::try_from(at).map_err(|_| bad("too large", at))?);
            at += 12 + tail;
        }
        types.shrink_to_fit();
        Ok(Self { data, strings, types })
    }

    /// Byte offset of a member (`a.b` looks into structs, anonymous members are looked through).
    pub fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut kind = self.named(structure, kind::STRUCT)?;
        let mut bits = 0;
        for name in path.split('.') {
            let (at, member) = self.member(kind, name, 0)?;
            bits += at;
            kind = self.resolve(member)?;
        }
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Size of a struct, bytes.
    pub fn size(&self, structure: &str) -> Option<u32> {
        Some(self.named(structure, kind::STRUCT)?.size_or_type)
    }

    /// Value of a name in an enum.
    pub fn enum_value(&self, enumeration: &str, name: &str) -> Option<u32> {
        let kind = self.named(enumeration, kind::ENUM)?;
        (0..kind.count()).find_map(|index| {
            let at = kind.at + 12 + index * 8;
            let is = self.name(u32_at(&self.data, at)?) == name.as_bytes();
            is.then(|| u32_at(&self.data, at + 4)).flatten()
        })
    }

    /// Whether there is a function of this name.
    pub fn has_function(&self, name: &str) -> bool {
        self.named(name, kind::FUNC).is_some()
    }

    /// Id of a typedef, as the kernel counts types.
    pub fn typedef_id(&self, name: &str) -> Option<u32> {
        let index = self.types.iter().position(|&at| {
            type_at(&self.data, at as usize).is_some_and(|kind| {
                kind.kind() == kind::TYPEDEF && self.name(kind.name) == name.as_bytes()
            })
        })?;
        u32::try_from(index + 1).ok()
    }

    /// Arguments of a tracepoint; None = this kernel has none of this name.
    pub fn tracepoint(&self, name: &str) -> Option<Vec<Argument>> {
        let typedef = self.named(&format!("btf_trace_{name}"), kind::TYPEDEF)?;
        let pointer = self.by_id(typedef.size_or_type)?;
        let proto = self.by_id(pointer.size_or_type)?;
        if proto.kind() != kind::FUNC_PROTO {
            return None;
        }
        // The first argument is the tracer's own context.
        (1..proto.count())
            .map(|index| {
                let id = u32_at(&self.data, proto.at + 12 + index * 8 + 4)?;
                let kind = self.resolve(id)?;
                if kind.kind() != kind::PTR {
                    return Some(Argument::Scalar);
                }
                Some(match self.resolve(kind.size_or_type) {
                    Some(to) if to.kind() == kind::STRUCT => {
                        Argument::Struct(String::from_utf8_lossy(self.name(to.name)).into_owned())
                    }
                    _ => Argument::Pointer,
                })
            })
            .collect()
    }

    /// BTF in which only the wanted typedefs and functions have names; all ids are as they are
    /// here. A loader that keeps each type as an object of its own needs a small part of the
    /// memory for it.
    pub fn outline(&self, wanted: impl Fn(&str) -> bool) -> Vec<u8> {
        let mut types: Vec<u8> = Vec::with_capacity(self.types.len() * 12);
        let mut strings = vec![0];
        let mut end = 0;
        for &at in &self.types {
            let kind = type_at(&self.data, at as usize)
                .filter(|kind| matches!(kind.kind(), kind::TYPEDEF | kind::FUNC));
            let name = kind.and_then(|kind| std::str::from_utf8(self.name(kind.name)).ok());
            let words = match (kind, name) {
                (Some(kind), Some(name)) if wanted(name) => {
                    let offset = strings.len() as u32;
                    strings.extend_from_slice(name.as_bytes());
                    strings.push(0);
                    [offset, kind.info, kind.size_or_type]
                }
                _ => [0, FORWARD, 0],
            };
            types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
            if words[0] != 0 {
                end = types.len();
            }
        }
        types.truncate(end);
        bytes_of(types, strings)
    }

    /// Bit offset and type of a member.
    fn member(&self, kind: Type, name: &str, depth: u32) -> Option<(u32, u32)> {
        if depth > MAX_NESTING || !matches!(kind.kind(), kind::STRUCT | kind::UNION) {
            return None;
        }
        // With kind_flag the upper 8 bits of an offset are the width of a bit field.
        let mask = if kind.info >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        for index in 0..kind.count() {
            let at = kind.at + 12 + index * 12;
            let (label, id) = (u32_at(&self.data, at)?, u32_at(&self.data, at + 4)?);
            let bits = u32_at(&self.data, at + 8)? & mask;
            let label = self.name(label);
            if label == name.as_bytes() {
                return Some((bits, id));
            }
            if label.is_empty()
                && let Some(inner) = self.resolve(id)
                && let Some((inside, id)) = self.member(inner, name, depth + 1)
            {
                return Some((bits + inside, id));
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, id: u32) -> Option<Type> {
        let mut kind = self.by_id(id)?;
        for _ in 0..MAX_NESTING {
            if !kind.is_transparent() {
                break;
            }
            kind = self.by_id(kind.size_or_type)?;
        }
        Some(kind)
    }

    fn by_id(&self, id: u32) -> Option<Type> {
        let index = usize::try_from(id.checked_sub(1)?).ok()?;
        type_at(&self.data, *self.types.get(index)? as usize)
    }

    fn named(&self, name: &str, wanted: u32) -> Option<Type> {
        self.types.iter().find_map(|&at| {
            let kind = type_at(&self.data, at as usize)?;
            (kind.kind() == wanted && self.name(kind.name) == name.as_bytes()).then_some(kind)
        })
    }

    fn name(&self, offset: u32) -> &[u8] {
        let start = self.strings.0.saturating_add(offset as usize).min(self.strings.1);
        let bytes = &self.data[start..self.strings.1];
        &bytes[..bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len())]
    }
}

/// A file of these two sections.
fn bytes_of(types: Vec<u8>, strings: Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24 + types.len() + strings.len());
    bytes.extend(MAGIC.to_ne_bytes());
    bytes.extend([1, 0]);
    let length = types.len() as u32;
    for word in [24, 0, length, length, strings.len() as u32] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(types);
    bytes.extend(strings);
    bytes
}

fn type_at(data: &[u8], at: usize) -> Option<Type> {
    Some(Type {
        at,
        name: u32_at(data, at)?,
        info: u32_at(data, at + 4)?,
        size_or_type: u32_at(data, at + 8)?,
    })
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// struct outer { int a; struct { int b; int c; }; }, with `int` as type 1.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0c\0";
        let mut types: Vec<u32> = Vec::new();
        types.extend([1, 1 << 24, 4, 32]);
        types.extend([0, (kind::STRUCT << 24) | 2, 8, 13, 1, 0, 15, 1, 32]);
        types.extend([5, (kind::STRUCT << 24) | 2, 12, 11, 1, 0, 0, 2, 32]);
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes_of(types, strings.to_vec())
    }

    fn parse(data: Vec<u8>) -> Result<Btf, BtfError> {
        Btf::parse(data, Path::new("sample"))
    }

    #[test]
    fn finds_members_also_in_anonymous_ones() {
        let btf = parse(sample()).unwrap();
        assert_eq!(btf.offset("outer", "a"), Some(0));
        assert_eq!(btf.offset("outer", "b"), Some(4));
        assert_eq!(btf.offset("outer", "c"), Some(8));
        assert_eq!(btf.offset("outer", "d"), None);
        assert_eq!(btf.offset("inner", "a"), None);
        assert_eq!(btf.size("outer"), Some(12));
    }

    #[test]
    fn an_outline_keeps_ids_and_drops_the_rest() {
        let path = Path::new(VMLINUX);
        if !path.exists() {
            return;
        }
        let whole = Btf::open(path).unwrap();
        let wanted = ["btf_trace_mark_victim", "bpf_iter_task"];
        let bytes = whole.outline(|name| wanted.contains(&name));
        let outline = Btf::parse(bytes, Path::new("outline")).unwrap();
        for (name, kind) in [(wanted[0], kind::TYPEDEF), (wanted[1], kind::FUNC)] {
            let id = |btf: &Btf| {
                let at = btf.named(name, kind).unwrap().at as u32;
                btf.types.iter().position(|&other| other == at).unwrap()
            };
            assert_eq!(id(&whole), id(&outline), "{name}");
        }
        assert!(whole.typedef_id(wanted[0]).is_some());
        assert_eq!(whole.typedef_id(wanted[0]), outline.typedef_id(wanted[0]));
        assert_eq!(outline.typedef_id("pid_t"), None);
        assert!(outline.named("task_struct", kind::STRUCT).is_none());
    }

    #[test]
    fn refuses_what_is_no_btf() {
        assert!(matches!(parse(Vec::new()), Err(BtfError::Malformed { what: "cut short", .. })));
        assert!(matches!(
            parse(vec![0; 64]),
            Err(BtfError::Malformed { what: "wrong magic", at: 0, .. })
        ));
        let whole = sample();
        for length in 0..whole.len() {
            assert!(parse(whole[..length].to_vec()).is_err(), "cut to {length} bytes");
        }
    }

    #[test]
    fn survives_any_damaged_byte() {
        let whole = sample();
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut data = whole.clone();
                data[at] = value;
                if let Ok(btf) = parse(data) {
                    for name in ["a", "b", "c"] {
                        let _ = btf.offset("outer", name);
                    }
                    let _ = btf.tracepoint("outer");
                }
            }
        }
    }

    #[test]
    fn agrees_with_the_running_kernel_where_offsets_are_fixed() {
        // uapi structs cannot change: they are the oracle for the real file.
        let path = Path::new(VMLINUX);
        if !path.exists() {
            return;
        }
        let btf = Btf::open(path).unwrap();
        assert_eq!(btf.offset("iovec", "iov_len"), Some(8));
        assert_eq!(btf.size("iovec"), Some(16));
        assert_eq!(btf.offset("task_struct", "no_such_member"), None);
        assert!(btf.offset("mm_struct", "rss_stat").is_some());
        assert_eq!(
            btf.tracepoint("sched_process_fork"),
            Some(vec![
                Argument::Struct("task_struct".into()),
                Argument::Struct("task_struct".into())
            ])
        );
    }
}
