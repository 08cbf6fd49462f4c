//! The types of a kernel cut down to those that are asked for, in a form small enough to be kept
//! beside tests: all ids stay, and everything that was asked of the whole gets the same answer from
//! the excerpt.

use std::collections::{BTreeMap, HashMap};

use super::{Btf, FORWARD, Type, bytes_of, kind, u32_at};
use crate::kernel::{offsets, plan};

/// How much of a type is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// A struct's name: it is only pointed at.
    Head,
    /// All of it.
    Whole,
}

impl Btf {
    /// BTF with only the types that [`offsets::resolve`] and [`plan::Abilities`] ask for. The
    /// others are nameless forward declarations, which compress to nothing.
    pub fn excerpt(&self) -> Vec<u8> {
        let wanted = |kind: Type, name: &str| match kind.kind() {
            kind::STRUCT | kind::ENUM => offsets::asks_for(name),
            kind::TYPEDEF | kind::FUNC => plan::is_target(name),
            _ => false,
        };
        let mut parts = BTreeMap::new();
        for id in 1..=u32::try_from(self.types.len()).unwrap_or(u32::MAX) {
            if let Some(kind) = self.by_id(id)
                && std::str::from_utf8(self.name(kind.name)).is_ok_and(|name| wanted(kind, name))
            {
                self.keep(id, &mut parts);
                self.keep_arguments(kind, &mut parts);
            }
        }
        self.write(&parts)
    }

    /// Keeps a type whole, and what is known of it without following a pointer.
    fn keep(&self, id: u32, parts: &mut BTreeMap<u32, Part>) {
        let mut left = vec![id];
        while let Some(id) = left.pop() {
            let Some(kind) = self.by_id(id) else { continue };
            if parts.insert(id, Part::Whole) == Some(Part::Whole) {
                continue;
            }
            if kind.is_transparent() {
                left.push(kind.size_or_type);
            } else if matches!(kind.kind(), kind::STRUCT | kind::UNION) {
                let member = |index| u32_at(&self.data, kind.at + 12 + index * 12 + 4);
                left.extend((0..kind.count()).filter_map(member));
            }
        }
    }

    /// Keeps the arguments of a tracepoint, whose typedef is a pointer to a function.
    fn keep_arguments(&self, typedef: Type, parts: &mut BTreeMap<u32, Part>) {
        let proto_id = self.by_id(typedef.size_or_type).map(|pointer| pointer.size_or_type);
        let Some((id, proto)) = proto_id.and_then(|id| Some((id, self.by_id(id)?))) else { return };
        if typedef.kind() != kind::TYPEDEF || proto.kind() != kind::FUNC_PROTO {
            return;
        }
        self.keep(id, parts);
        for index in 0..proto.count() {
            let Some(id) = u32_at(&self.data, proto.at + 12 + index * 8 + 4) else { continue };
            self.keep(id, parts);
            if let Some(pointer) = self.resolve(id).filter(|kind| kind.kind() == kind::PTR) {
                self.keep_head(pointer.size_or_type, parts);
            }
        }
    }

    /// Keeps the name at the end of a chain of typedefs and qualifiers.
    fn keep_head(&self, mut id: u32, parts: &mut BTreeMap<u32, Part>) {
        while let Some(kind) = self.by_id(id) {
            let known = parts.entry(id).or_insert(Part::Head);
            if !kind.is_transparent() || *known == Part::Whole {
                return;
            }
            *known = Part::Whole;
            id = kind.size_or_type;
        }
    }

    fn write(&self, parts: &BTreeMap<u32, Part>) -> Vec<u8> {
        let mut strings = Strings::default();
        let mut types = Vec::new();
        for id in 1..=u32::try_from(self.types.len()).unwrap_or(u32::MAX) {
            let (Some(kind), Some(part)) = (self.by_id(id), parts.get(&id)) else {
                types.extend([0, FORWARD, 0]);
                continue;
            };
            let mut name = |at| strings.place(self.name(at));
            // The tail of a type is an array of entries; the first word of each is a name in
            // structs, unions, enums and functions' arguments.
            let (entry_words, named) = match kind.kind() {
                kind::STRUCT | kind::UNION | kind::ENUM64 => (3, true),
                kind::ENUM | kind::FUNC_PROTO => (2, true),
                _ => (3, false),
            };
            let head_only = *part == Part::Head && named;
            // Lowest 16 bits: number of entries.
            let info = if head_only { kind.info & !0xffff } else { kind.info };
            types.extend([name(kind.name), info, kind.size_or_type]);
            let words = if head_only { 0 } else { kind.tail().unwrap_or(0) / 4 };
            for index in 0..words {
                let word = u32_at(&self.data, kind.at + 12 + index * 4).unwrap_or(0);
                let is_name = named && index % entry_words == 0;
                types.push(if is_name { name(word) } else { word });
            }
        }
        bytes_of(types.iter().flat_map(|word| word.to_ne_bytes()).collect(), strings.bytes)
    }
}

/// A string section in the making: each string once.
struct Strings {
    bytes: Vec<u8>,
    places: HashMap<Vec<u8>, u32>,
}

impl Default for Strings {
    fn default() -> Self {
        Self { bytes: vec![0], places: HashMap::from([(Vec::new(), 0)]) }
    }
}

impl Strings {
    fn place(&mut self, name: &[u8]) -> u32 {
        if let Some(&at) = self.places.get(name) {
            return at;
        }
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.places.insert(name.to_owned(), at);
        at
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::VMLINUX;
    use super::*;
    use crate::kernel::plan::{Abilities, HOOKS};

    #[test]
    fn an_excerpt_answers_as_the_whole_does() {
        let path = Path::new(VMLINUX);
        if !path.exists() {
            return;
        }
        let whole = Btf::open(path).unwrap();
        let bytes = whole.excerpt();
        let excerpt = Btf::parse(bytes.clone(), Path::new("excerpt")).unwrap();
        assert_eq!(excerpt.types.len(), whole.types.len());
        assert_eq!(offsets::resolve(&excerpt).unwrap(), offsets::resolve(&whole).unwrap());
        assert_eq!(Abilities::of(&excerpt, true, &[]), Abilities::of(&whole, true, &[]));
        for hook in HOOKS {
            assert_eq!(excerpt.tracepoint(hook.1), whole.tracepoint(hook.1), "{}", hook.1);
        }
        assert_eq!(excerpt.outline(plan::is_target), whole.outline(plan::is_target));
        // An excerpt of the excerpt has nothing left to lose.
        assert!(excerpt.excerpt() == bytes);
        // What nobody asks for is gone.
        assert!(whole.size("super_block").is_some());
        assert_eq!(excerpt.size("super_block"), None);
        let packed = zstd::encode_all(bytes.as_slice(), 19).unwrap();
        assert!(packed.len() < 64 << 10, "{} bytes", packed.len());
    }
}
