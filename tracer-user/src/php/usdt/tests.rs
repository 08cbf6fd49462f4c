//! Notes of probes in files made for the purpose: good ones, cut ones, hostile ones.

use std::io::Write as _;

use super::*;

/// Where the file made here has its code and its data: address, offset, bytes.
const CODE: (u64, u64, u64) = (0x40_1000, 0x1000, 0x800);
const DATA: (u64, u64, u64) = (0x60_3000, 0x1800, 0x100);
/// Where `.stapsdt.base` lies.
const BASE: u64 = 0x50_0000;

/// A note as systemtap's macros write it.
fn note(name: &str, location: u64, base: u64, semaphore: u64) -> Vec<u8> {
    let mut desc: Vec<u8> =
        [location, base, semaphore].iter().flat_map(|word| word.to_le_bytes()).collect();
    desc.extend(format!("php\0{name}\08@%rax\0").as_bytes());
    let mut note = raw(NOTE_TYPE, b"stapsdt\0", desc.len());
    note.extend(&desc);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

fn raw(kind: u32, name: &[u8], desc_bytes: usize) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [name.len() as u32, desc_bytes as u32, kind] {
        note.extend(word.to_le_bytes());
    }
    note.extend(name);
    note
}

fn both() -> Vec<u8> {
    let begin = note("request__startup", 0x40_1010, BASE, 0x60_3002);
    [begin, note("request__shutdown", 0x40_1020, BASE, 0)].concat()
}

/// A little-endian ELF file of 64 bits with code, data, the base section at `base` and these notes.
fn elf(base: u64, notes: &[u8]) -> Vec<u8> {
    let names = b"\0.note.stapsdt\0.stapsdt.base\0.shstrtab\0";
    let (notes_at, names_at) = (0x2000, 0x2000 + notes.len());
    let sections_at = (names_at + names.len()).next_multiple_of(8);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    let put = |file: &mut Vec<u8>, words: &[(u64, usize)]| {
        for (word, bytes) in words {
            file.extend(&word.to_le_bytes()[..*bytes]);
        }
    };
    put(&mut file, &[(3, 2), (62, 2), (1, 4), (0, 8), (64, 8), (sections_at as u64, 8)]);
    put(&mut file, &[(0, 4), (64, 2), (56, 2), (2, 2), (64, 2), (4, 2), (3, 2)]);
    for ((address, offset, bytes), flags) in [(CODE, 5), (DATA, 6)] {
        put(&mut file, &[(1, 4), (flags, 4), (offset, 8), (address, 8), (address, 8)]);
        put(&mut file, &[(bytes, 8), (bytes + 0x1000, 8), (0x1000, 8)]);
    }
    file.resize(notes_at, 0);
    file.extend(notes);
    file.extend(names);
    file.resize(sections_at, 0);
    for (name, kind, address, offset, bytes, align) in [
        (0, 0, 0, 0, 0, 0),
        (1, 7, 0, notes_at, notes.len(), 4),
        (15, 1, base, 0x1000, 1, 1),
        (29, 3, 0, names_at, names.len(), 1),
    ] {
        put(&mut file, &[(name, 4), (kind, 4), (0, 8), (address, 8), (offset as u64, 8)]);
        put(&mut file, &[(bytes as u64, 8), (0, 8), (align, 8), (0, 8)]);
    }
    file
}

fn read(bytes: &[u8]) -> Result<RequestProbes, NoProbes> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    RequestProbes::read(&file)
}

#[test]
fn probes_are_found_where_their_notes_say() {
    let other = note("function__entry", 0x40_1030, BASE, 0);
    let foreign = [raw(NOTE_TYPE, b"GNU\0", 4), vec![0; 4]].concat();
    let probes = read(&elf(BASE, &[foreign, other, both()].concat())).unwrap();
    assert_eq!(probes.begin, [Place { offset: 0x1010, semaphore: Some(0x1802) }]);
    assert_eq!(probes.end, [Place { offset: 0x1020, semaphore: None }]);
}

#[test]
fn places_move_with_the_base() {
    let notes = [
        note("request__startup", 0x40_0010, BASE - 0x1000, 0x60_2002),
        note("request__shutdown", 0x40_2020, BASE + 0x1000, 0),
        note("request__shutdown", 0x40_1040, 0, 0),
    ];
    let probes = read(&elf(BASE, &notes.concat())).unwrap();
    assert_eq!(probes.begin, [Place { offset: 0x1010, semaphore: Some(0x1802) }]);
    let ends: Vec<u64> = probes.end.iter().map(|place| place.offset).collect();
    assert_eq!(ends, [0x1020, 0x1040]);
}

#[test]
fn what_is_not_there_is_said() {
    let begin = || note("request__startup", 0x40_1010, BASE, 0);
    let end = |location, semaphore| note("request__shutdown", location, BASE, semaphore);
    let refused = |notes: &[Vec<u8>]| read(&elf(BASE, &notes.concat())).unwrap_err();
    assert!(matches!(refused(&[]), NoProbes::NoNotes));
    assert!(matches!(refused(&[begin()]), NoProbes::NoNotes));
    for address in [0, 0x40_0fff, 0x40_1800, 0x60_3000, u64::MAX] {
        let refused = refused(&[begin(), end(address, 0)]);
        assert!(matches!(refused, NoProbes::NoCode { address: at } if at == address));
    }
    // Code, and what is behind the file's part of the data, hold no counter.
    for address in [0x40_1010, 0x60_3100, u64::MAX] {
        let refused = refused(&[begin(), end(0x40_1020, address)]);
        assert!(matches!(refused, NoProbes::NoSemaphore { address: at } if at == address));
    }
    let many = vec![begin(); MAX_PLACES + 1];
    assert!(matches!(refused(&many), NoProbes::TooMany));
    let short = [raw(NOTE_TYPE, b"stapsdt\0", 8), vec![0; 8]].concat();
    let endless = [raw(NOTE_TYPE, b"stapsdt\0", 28), b"x".repeat(28)].concat();
    let long = raw(NOTE_TYPE, b"stapsdt\0", u32::MAX as usize);
    for damaged in [short, endless, long] {
        assert!(matches!(refused(&[damaged, both()]), NoProbes::Damaged));
    }
    assert!(matches!(read(b"#!/bin/sh\n").unwrap_err(), NoProbes::NoElf));
    let exe = File::open("/bin/true").unwrap();
    assert!(matches!(RequestProbes::read(&exe).unwrap_err(), NoProbes::NoNotes));
}

#[test]
fn a_file_cut_anywhere_has_no_probes() {
    let whole = elf(BASE, &both());
    assert!(read(&whole).is_ok());
    for bytes in 0..whole.len() {
        assert!(read(&whole[..bytes]).is_err(), "cut to {bytes} bytes");
    }
}

#[test]
fn damage_gives_an_answer() {
    let whole = elf(BASE, &both());
    let mut found = 0;
    for at in (0..0xb0).chain(0x2000..whole.len()) {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] = value;
            found += usize::from(read(&damaged).is_ok());
        }
    }
    assert!(found > 0, "some bytes do not matter");
}

#[test]
fn sections_that_claim_gigabytes_are_not_read() {
    let mut whole = elf(BASE, &both());
    let sections = whole.len() - 4 * 64;
    for section in [1, 3] {
        let at = sections + section * 64 + 32;
        whole[at..at + 8].copy_from_slice(&(8_u64 << 30).to_le_bytes());
    }
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&whole).unwrap();
    file.set_len(64 << 30).unwrap();
    assert!(RequestProbes::read(&file).is_err());
}

#[test]
fn this_process_is_no_php() {
    let target = Target::open(std::process::id()).unwrap();
    assert!(binary(&target).unwrap().is_none());
}
