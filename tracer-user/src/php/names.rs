//! Names of stacks that the kernel saw: read in the process, and remembered for a short time, since
//! code that grows is mostly seen again at once.

use std::time::{Duration, Instant};

use tracer_ebpf::{PHP_FRAMES, PhpStackRecord};

use super::looker::Looker;
use crate::event::ProcessKey;
use crate::event::look::Frame;

/// Stacks whose names are remembered …
const REMEMBERED: usize = 16;
/// … for so long: PHP frees functions, and puts others in their place.
const TRUSTED: Duration = Duration::from_millis(250);

/// Stacks that were named lately.
#[derive(Debug, Default)]
pub struct Names {
    named: Vec<Named>,
}

#[derive(Debug)]
struct Named {
    key: ProcessKey,
    calls: Vec<(u64, u64)>,
    frames: Vec<Frame>,
    at: Instant,
}

impl Names {
    /// The frames of a stack, innermost first. Empty = there are none, or they cannot be named.
    pub fn of(&mut self, looker: &mut Looker, record: &PhpStackRecord) -> Vec<Frame> {
        let key = ProcessKey { tgid: record.task.tgid, start_ns: record.task.start_ns };
        let depth = (record.depth as usize).min(PHP_FRAMES);
        let calls: Vec<(u64, u64)> =
            record.frames[..depth].iter().map(|call| (call.opline, call.function)).collect();
        self.remembered(key, calls, |calls| looker.name(key, calls))
    }

    fn remembered(
        &mut self,
        key: ProcessKey,
        calls: Vec<(u64, u64)>,
        name: impl FnOnce(&[(u64, u64)]) -> Vec<Frame>,
    ) -> Vec<Frame> {
        self.named.retain(|named| named.at.elapsed() < TRUSTED);
        if let Some(known) =
            self.named.iter().find(|named| named.key == key && named.calls == calls)
        {
            return known.frames.clone();
        }
        let frames = name(&calls);
        if self.named.len() == REMEMBERED {
            self.named.remove(0);
        }
        let at = Instant::now();
        self.named.push(Named { key, calls, frames: frames.clone(), at });
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_few_stacks_are_named_once_and_not_for_long() {
        let mut names = Names::default();
        let mut asked = 0;
        let mut name = |names: &mut Names, tgid: u32, function: u64| {
            let key = ProcessKey { tgid, start_ns: 1 };
            names.remembered(key, vec![(1, function)], |calls| {
                asked += 1;
                let function = Some(calls[0].1.to_string().into());
                vec![Frame { function, ..Frame::default() }]
            });
            asked
        };
        assert_eq!(name(&mut names, 7, 0), 1);
        assert_eq!(name(&mut names, 7, 0), 1);
        assert_eq!(name(&mut names, 8, 0), 2, "another process has other functions there");
        for function in 1..=REMEMBERED as u64 {
            name(&mut names, 7, function);
        }
        assert_eq!(names.named.len(), REMEMBERED);
        let asked = name(&mut names, 7, 0);
        assert_eq!(name(&mut names, 7, 0), asked);
        std::thread::sleep(TRUSTED);
        assert_eq!(name(&mut names, 7, 0), asked + 1);
    }
}
