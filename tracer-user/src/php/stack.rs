//! The PHP stack: from the innermost call outwards along prev_execute_data, which also leads out of
//! generators and fibers. It is read while it moves: the chain is read twice at once, until both are
//! the same; where that does not come about, the outer frames that every try has found are the
//! answer. A generator that only delegates (`yield from`) has no frame while another one runs for
//! it.

use std::sync::Arc;

use super::layout::{Layout, frame, function};
use super::remote::{Remote, half, word};
use crate::event::look::{Frame, Reason};
use crate::text::lossy;

/// Most frames.
const DEPTH: usize = 64;
/// Tries until the chain stands still.
const TRIES: u32 = 8;
/// Frames mostly lie one behind the other: this much of the newest is read at once, bytes.
const REGION_BYTES: u64 = 4 << 10;
/// vm_stack_top and vm_stack stand this much before current_execute_data, bytes.
const TOP_BEFORE: u64 = 32;
/// Longest name that is kept, bytes.
const NAME_BYTES: usize = 1024;

/// A frame's place, and what it is a call of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    at: u64,
    opline: u64,
    func: u64,
    prev: u64,
}

/// A stack as it was read.
#[derive(Debug, Default)]
pub struct Walk {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// There are more, or the chain broke.
    pub cut: bool,
    /// Things that were not as they must be.
    pub defects: u32,
    /// Tries that were thrown away.
    pub torn: u32,
    /// Frames further in were left out: they came and went.
    pub moved: bool,
    links: Vec<Link>,
}

/// The newest part of the VM stack.
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    bytes: usize,
}

/// Reads the stack whose innermost frame `current_at` points to.
pub fn walk(remote: &mut Remote, current_at: u64, layout: &Layout) -> Result<Walk, Reason> {
    let mut walk = Walk::default();
    let mut region = Region::default();
    let (mut moved, mut tries, mut outer) = (false, 0, Vec::new());
    for _ in 0..TRIES {
        let swapped = remote.swapped();
        // Both at once: where the region was in the try before, it mostly still is.
        let read = remote.fetch(&[
            (current_at.wrapping_sub(TOP_BEFORE), TOP_BEFORE as usize + 8),
            (region.start, region.bytes),
        ])?;
        let word = |at| read.word(0, at).unwrap_or(0);
        let (top, bottom, current) = (word(0), word(16), word(TOP_BEFORE as usize));
        let fetched;
        let mut bytes = read.get(1);
        if !(region.start..region.start + region.bytes as u64).contains(&current) {
            region = Region::default();
            if (bottom..top).contains(&current) {
                let start = top.saturating_sub(REGION_BYTES).max(bottom) & !7;
                let bytes = usize::try_from(top - start).unwrap_or(0);
                region = Region { start, bytes: bytes.min(REGION_BYTES as usize) };
            }
            fetched = remote.fetch(&[(region.start, region.bytes)])?;
            bytes = fetched.get(0);
        }
        walk.chain(remote, current, region.start, bytes.unwrap_or_default())?;
        let mut again = walk.again(remote, current_at, current)?;
        if again.is_good() && walk.defects == 0 {
            // Code that makes a call each 100 ns can look the same twice by chance.
            again = walk.again(remote, current_at, current)?;
        }
        if (again.is_good() && walk.defects == 0) || remote.swapped() > swapped {
            break;
        }
        walk.torn += 1;
        moved |= !again.still;
        if again.rooted && walk.defects == 0 {
            tries += 1;
            let links = walk.links.split_off(again.moved);
            outer = if tries == 1 { links } else { common(&outer, links) };
        }
    }
    if moved && walk.torn == TRIES {
        // The frames that every try has found.
        walk.links = if tries > 1 { outer } else { Vec::new() };
        (walk.moved, walk.defects) = (true, 0);
    }
    walk.name(remote, layout)?;
    Ok(walk)
}

/// Names calls that were seen as (opline, function), innermost first.
pub fn name(
    remote: &mut Remote,
    layout: &Layout,
    calls: impl Iterator<Item = (u64, u64)>,
) -> Result<Vec<Frame>, Reason> {
    let links = calls.map(|(opline, func)| Link { at: 0, opline, func, prev: 0 }).collect();
    let mut walk = Walk { links, ..Walk::default() };
    walk.name(remote, layout)?;
    Ok(if walk.defects == 0 { walk.frames } else { Vec::new() })
}

/// The outermost links that two chains share.
fn common(one: &[Link], mut other: Vec<Link>) -> Vec<Link> {
    let place = |link: &Link| (link.at, link.func, link.prev);
    let pairs = one.iter().rev().zip(other.iter().rev());
    let same = pairs.take_while(|(one, other)| place(one) == place(other)).count();
    other.split_off(other.len() - same)
}

impl Walk {
    fn chain(
        &mut self,
        remote: &mut Remote,
        current: u64,
        start: u64,
        region: &[u8],
    ) -> Result<(), Reason> {
        self.links.clear();
        (self.cut, self.defects) = (false, 0);
        let mut at = current;
        while at != 0 {
            if self.links.len() == DEPTH {
                self.cut = true;
                break;
            }
            let within = at.checked_sub(start).and_then(|within| usize::try_from(within).ok());
            let known =
                within.and_then(|within| region.get(within..within.checked_add(frame::BYTES)?));
            let fetched;
            let bytes = match known {
                Some(bytes) => Some(bytes),
                None => {
                    fetched = remote.fetch(&[(at, frame::BYTES)])?;
                    fetched.get(0)
                }
            };
            let link = bytes.filter(|_| at.is_multiple_of(8)).and_then(|bytes| {
                Some(Link {
                    at,
                    opline: word(bytes, frame::OPLINE)?,
                    func: word(bytes, frame::FUNC)?,
                    prev: word(bytes, frame::PREV)?,
                })
            });
            let Some(link) = link.filter(|_| self.links.iter().all(|known| known.at != at)) else {
                // Unreadable, or a circle.
                self.defects += 1;
                self.cut = true;
                break;
            };
            self.links.push(link);
            at = link.prev;
        }
        Ok(())
    }

    fn name(&mut self, remote: &mut Remote, layout: &Layout) -> Result<(), Reason> {
        let mut funcs = Unique::default();
        for link in &self.links {
            funcs.add(link.func);
        }
        let places: Vec<(u64, usize)> = funcs
            .0
            .iter()
            .flat_map(|&func| {
                [(func, function::HEAD_BYTES), (func.saturating_add(layout.filename), 16)]
            })
            .collect();
        let heads = remote.fetch(&places)?;
        let head = |func: u64| {
            let at = funcs.index(func)?;
            Some((heads.get(2 * at)?, heads.get(2 * at + 1)))
        };

        let (mut strings, mut classes) = (Unique::default(), Unique::default());
        let mut places = Vec::new();
        for link in &self.links {
            let Some((bytes, file)) = head(link.func) else { continue };
            strings.add(word(bytes, function::NAME).unwrap_or(0));
            if bytes[0] != function::INTERNAL {
                strings.add(file.and_then(|file| word(file, 0)).unwrap_or(0));
                places.push((link.opline.saturating_add(function::LINE), 4));
            } else {
                places.push((0, 0));
            }
            classes.add(word(bytes, function::SCOPE).unwrap_or(0));
        }
        let lines = places.len();
        places
            .extend(classes.0.iter().map(|class| (class.saturating_add(function::CLASS_NAME), 8)));
        let details = remote.fetch(&places)?;
        let class_name = |class: u64| details.word(lines + classes.index(class)?, 0);
        for &class in &classes.0 {
            strings.add(class_name(class).unwrap_or(0));
        }
        let texts = remote.strings(&strings.0, NAME_BYTES)?;
        let text =
            |at: u64| -> Option<Arc<str>> { texts.get(strings.index(at)?)?.as_deref().map(lossy) };

        let mut place = 0;
        for link in &self.links {
            if link.func == 0 {
                // The place of a generator that another one runs for.
                continue;
            }
            let Some((bytes, file)) = head(link.func) else {
                self.defects += 1;
                continue;
            };
            let line = details.get(place).and_then(|bytes| half(bytes, 0));
            place += 1;
            let name = word(bytes, function::NAME).unwrap_or(0);
            let scope = word(bytes, function::SCOPE).unwrap_or(0);
            let mut read = Frame {
                class: class_name(scope).and_then(text).filter(|_| name != 0),
                function: text(name),
                file: None,
                line: None,
            };
            let mut defect =
                name != 0 && (read.function.is_none() || (scope != 0 && read.class.is_none()));
            match bytes[0] {
                // The bottom of a fiber has no name.
                function::INTERNAL if name == 0 => continue,
                function::INTERNAL => {}
                function::USER | function::EVAL => {
                    read.file = file.and_then(|file| word(file, 0)).and_then(text);
                    let lines = file.map(|file| (half(file, 8), half(file, 12)));
                    if let Some((Some(first), Some(last))) = lines {
                        read.line = line.filter(|line| (first..=last).contains(line));
                    }
                    defect |= read.file.is_none();
                }
                _ => {
                    self.defects += 1;
                    continue;
                }
            }
            self.defects += u32::from(defect);
            self.frames.push(read);
        }
        Ok(())
    }

    /// Reads the chain again.
    fn again(&self, remote: &mut Remote, current_at: u64, current: u64) -> Result<Again, Reason> {
        let root = self.links.last().map_or(0, |link| link.func);
        let mut places = vec![(current_at, 8), (root, function::HEAD_BYTES)];
        let linked = frame::BYTES - frame::FUNC;
        places.extend(self.links.iter().map(|link| (link.at + frame::FUNC as u64, linked)));
        let read = remote.fetch(&places)?;
        let moved = self.links.iter().enumerate().rposition(|(index, link)| {
            read.word(index + 2, 0) != Some(link.func)
                || read.word(index + 2, frame::PREV - frame::FUNC) != Some(link.prev)
        });
        let is_code =
            |root: &[u8]| root[0] != function::INTERNAL && word(root, function::NAME) == Some(0);
        Ok(Again {
            still: moved.is_none() && read.word(0, 0) == Some(current),
            moved: moved.map_or(0, |moved| moved + 1),
            rooted: self.cut || self.links.is_empty() || read.get(1).is_some_and(is_code),
        })
    }
}

/// What a second look at the chain told.
struct Again {
    /// Nothing moved.
    still: bool,
    /// Links from the innermost on that did not stand still.
    moved: usize,
    /// It begins with a file's code, as it mostly does: a call that is still being made leads
    /// nowhere. Functions that PHP calls when the script has ended begin a chain, too.
    rooted: bool,
}

impl Again {
    fn is_good(&self) -> bool {
        self.still && self.rooted
    }
}

/// Addresses, each once.
#[derive(Debug, Default)]
struct Unique(Vec<u64>);

impl Unique {
    fn add(&mut self, address: u64) {
        if address != 0 && !self.0.contains(&address) {
            self.0.push(address);
        }
    }

    fn index(&self, address: u64) -> Option<usize> {
        self.0.iter().position(|known| *known == address)
    }
}
