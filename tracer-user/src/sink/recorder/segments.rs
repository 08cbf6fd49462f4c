//! The files of the rolling trace: the one that is written, those that are kept, and which of them goes.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::directory::{Directory, sync_folder};
use crate::settings;
use crate::sink::append::Appended;
use crate::trace::segment;

/// Segments of earlier runs that go for their age when a new one begins. Their age is known by the wall
/// clock alone: one that was set wrong for an hour must not cost all of them.
const AGED_AT_ONCE: u32 = 4;

/// A segment that is written no more.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub name: OsString,
    pub bytes: u64,
    /// Its last event: CLOCK_BOOTTIME ns, if it is of this run …
    pub end_ns: Option<u64>,
    /// … and ns since 1970.
    pub end_wall_ns: i64,
}

/// The one that is written.
#[derive(Debug)]
pub(super) struct Current {
    pub number: u64,
    pub path: PathBuf,
    file: Appended,
    end_ns: u64,
    end_wall_ns: i64,
    is_dirty: bool,
}

/// What others did to the file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interference {
    /// It has another name, or another folder.
    Moved,
    /// It was removed.
    Removed,
    /// It was cut, or somebody wrote to it.
    Changed,
}

impl Interference {
    /// What happened to it, as the end of a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::Moved => "was moved by somebody else",
            Self::Removed => "was removed by somebody else, and what it held is gone",
            Self::Changed => "was cut or written to by somebody else",
        }
    }
}

/// All segments.
pub(super) struct Segments {
    directory: Directory,
    kept: VecDeque<Kept>,
    current: Option<Current>,
}

impl Segments {
    /// Those of earlier runs.
    pub fn open(directory: Directory, found: Vec<(u64, PathBuf)>) -> Self {
        let kept = found.into_iter().filter_map(|(_, path)| {
            let metadata = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
            let end_wall_ns = modified_ns(&metadata);
            let name = path.file_name()?.to_owned();
            Some(Kept { name, bytes: metadata.len(), end_ns: None, end_wall_ns })
        });
        Self { directory, kept: kept.collect(), current: None }
    }

    /// How many there are, and their bytes.
    pub fn totals(&self) -> (u64, u64) {
        let current = self.current.as_ref().map(|current| current.file.end_bytes());
        let bytes: u64 = self.kept.iter().map(|kept| kept.bytes).sum();
        let count = self.kept.len() + usize::from(current.is_some());
        (count as u64, bytes + current.unwrap_or(0))
    }

    /// The one that is written.
    pub fn current(&self) -> Option<&Current> {
        self.current.as_ref()
    }

    /// Begins a new one, and waits until its name is on the disk. The one before is finished by
    /// [`Segments::end`].
    pub fn begin(&mut self, number: u64, t_ns: u64, wall_ns: i64) -> io::Result<()> {
        let folder = self.directory.segments();
        let path = folder.join(segment::name(number, wall_ns));
        let file = Appended::new(self.directory.make_file(&path)?);
        self.current = Some(Current {
            number,
            path,
            file,
            end_ns: t_ns,
            end_wall_ns: wall_ns,
            is_dirty: false,
        });
        sync_folder(&folder)
    }

    /// Ends the current one, whatever can still be done for it.
    pub fn end(&mut self) -> io::Result<()> {
        let synced = self.sync();
        self.forget_current();
        synced.map(drop)
    }

    /// Writes no more to the current one; it is kept as it is.
    pub fn forget_current(&mut self) {
        if let Some(current) = self.current.take()
            && let Some(name) = current.path.file_name()
            && current.path.exists()
        {
            self.kept.push_back(Kept {
                name: name.to_owned(),
                bytes: current.file.end_bytes(),
                end_ns: Some(current.end_ns),
                end_wall_ns: current.end_wall_ns,
            });
        }
    }

    /// Adds a block, of which the last event was at these times. True = it is written, false = there
    /// is no file to write to.
    pub fn write(&mut self, block: [&[u8]; 2], t_ns: u64, wall_ns: i64) -> io::Result<bool> {
        let Some(current) = &mut self.current else { return Ok(false) };
        current.file.write(block)?;
        current.is_dirty = true;
        (current.end_ns, current.end_wall_ns) = (t_ns, wall_ns);
        Ok(true)
    }

    /// Looks whether the current file is what it should be.
    pub fn interference(&self) -> Option<Interference> {
        let current = self.current.as_ref()?;
        let metadata = current.file.file().metadata().ok()?;
        if metadata.nlink() == 0 {
            return Some(Interference::Removed);
        }
        if !current.file.is_torn() && metadata.len() != current.file.end_bytes() {
            return Some(Interference::Changed);
        }
        let named = fs::symlink_metadata(&current.path).ok();
        let is_there = named
            .is_some_and(|named| (named.ino(), named.dev()) == (metadata.ino(), metadata.dev()));
        (!is_there).then_some(Interference::Moved)
    }

    /// When the last event that was written happened: CLOCK_BOOTTIME ns, and ns since 1970. None = no segment
    /// is open.
    pub fn last(&self) -> Option<(u64, i64)> {
        self.current.as_ref().map(|current| (current.end_ns, current.end_wall_ns))
    }

    /// Whether something is written that may not be on the disk.
    pub fn is_dirty(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.is_dirty)
    }

    /// Waits until all that was written is on the disk. False = it was already.
    pub fn sync(&mut self) -> io::Result<bool> {
        let Some(current) = self.current.as_mut().filter(|current| current.is_dirty) else {
            return Ok(false);
        };
        current.is_dirty = false;
        current.file.file().sync_data()?;
        Ok(true)
    }

    /// Removes what is too much or too old, the oldest first, so that a new segment has room.
    pub fn retain(&mut self, settings: &settings::Recorder, t_ns: u64, wall_ns: i64) {
        let folder = self.directory.segments();
        // What others removed is not kept.
        self.kept.retain(|kept| folder.join(&kept.name).exists());
        let room = settings.max_size.get().saturating_sub(segment_limit(settings));
        let max_age_ns = settings.max_age.as_nanos();
        let (_, mut bytes) = self.totals();
        let mut aged = 0;
        while let Some(oldest) = self.kept.front() {
            let is_too_old = match oldest.end_ns {
                Some(end_ns) => t_ns.saturating_sub(end_ns) > max_age_ns,
                None => aged < AGED_AT_ONCE && self.age_of_earlier_ns(t_ns, wall_ns) > max_age_ns,
            };
            if bytes <= room && !is_too_old {
                break;
            }
            aged += u32::from(bytes <= room);
            bytes = bytes.saturating_sub(oldest.bytes);
            let path = folder.join(&oldest.name);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                // On a disk that takes no writes nothing can be removed either; the next segment tries.
                tracing::debug!("{} stays: {error}", path.display());
                break;
            }
            self.kept.pop_front();
        }
    }

    /// Age of the oldest, which is of an earlier run: by the wall clock, but at least as old as those
    /// that came after it.
    fn age_of_earlier_ns(&self, t_ns: u64, wall_ns: i64) -> u64 {
        let age = |kept: &Kept| match kept.end_ns {
            Some(end_ns) => t_ns.saturating_sub(end_ns),
            None => u64::try_from(wall_ns.saturating_sub(kept.end_wall_ns)).unwrap_or(0),
        };
        self.kept.iter().map(age).max().unwrap_or(0)
    }

    /// Paths of all that has something of the last `before_ns`, in order; the current one is the last.
    /// Those of earlier runs are known by the wall clock alone.
    pub fn before(&self, t_ns: u64, wall_ns: i64, before_ns: u64) -> Vec<PathBuf> {
        let from_ns = t_ns.saturating_sub(before_ns);
        let wall = wall_ns.saturating_sub_unsigned(before_ns)..=wall_ns;
        let is_asked = |kept: &&Kept| match kept.end_ns {
            Some(end_ns) => end_ns >= from_ns,
            None => wall.contains(&kept.end_wall_ns),
        };
        let folder = self.directory.segments();
        let kept = self.kept.iter().filter(is_asked);
        kept.map(|kept| folder.join(&kept.name))
            .chain(self.current.iter().map(|current| current.path.clone()))
            .collect()
    }
}

/// Bytes at which a segment ends: never more than half of all that may be kept.
pub(super) fn segment_limit(settings: &settings::Recorder) -> u64 {
    settings.segment_size.get().min(settings.max_size.get() / 2)
}

fn modified_ns(metadata: &fs::Metadata) -> i64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}

/// Highest number that is taken by a segment in the folder or in one of the folders below `incidents`.
pub(super) fn highest_number(segments: &[(u64, PathBuf)], incidents: &Path) -> u64 {
    let folders = fs::read_dir(incidents).into_iter().flatten().flatten();
    let linked = folders.filter_map(|folder| segment::list(&folder.path()).ok()?.pop());
    linked.chain(segments.last().cloned()).map(|(number, _)| number).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Size, Span};

    const S: u64 = 1_000_000_000;
    const WALL: i64 = 1_764_299_529_000_000_000;

    fn settings(max_bytes: u64, max_age_s: u64) -> settings::Recorder {
        settings::Recorder {
            segment_size: Size::bytes(100),
            max_size: Size::bytes(max_bytes),
            max_age: Span::from_secs(max_age_s),
            ..settings::Recorder::default()
        }
    }

    /// Ten of an earlier run, one an hour, then those of this one, one in 10 s.
    fn segments(folder: &Path, own: u64) -> Segments {
        let directory = Directory::open(folder).unwrap();
        let mut segments = Segments::open(directory.clone(), Vec::new());
        for number in 1..=10 + own {
            segments.begin(number, number * 10 * S, WALL).unwrap();
            segments.write([&[0; 40], &[0; 20]], number * 10 * S, WALL).unwrap();
            segments.end().unwrap();
        }
        for (before, kept) in segments.kept.iter_mut().take(10).enumerate() {
            kept.end_ns = None;
            kept.end_wall_ns = WALL - (10 - before as i64) * 3600 * S as i64;
        }
        segments
    }

    fn numbers(segments: &Segments) -> Vec<u64> {
        let on_disk = segment::list(&segments.directory.segments()).unwrap();
        let on_disk: Vec<u64> = on_disk.into_iter().map(|(number, _)| number).collect();
        let kept = segments.kept.iter().map(|kept| segment::number(kept.name.to_str().unwrap()));
        assert_eq!(on_disk, kept.map(Option::unwrap).collect::<Vec<_>>());
        on_disk
    }

    #[test]
    fn the_oldest_go_when_a_new_one_would_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = segments(folder.path(), 5);
        segments.retain(&settings(100 + 60 * 7, u64::MAX), 200 * S, WALL);
        assert_eq!(numbers(&segments), (9..=15).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_too_old_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = segments(folder.path(), 5);
        segments.retain(&settings(u64::MAX, 7 * 3600), 150 * S, WALL + 1);
        assert_eq!(numbers(&segments), (5..=15).collect::<Vec<_>>());
        for _ in 0..9 {
            segments.retain(&settings(u64::MAX, 20), 150 * S, WALL + 1);
        }
        assert_eq!(numbers(&segments), [13, 14, 15], "of this run by its own clock");
    }

    #[test]
    fn a_clock_that_steps_deletes_neither_all_nor_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut segments = segments(folder.path(), 5);
        let year = 365 * 24 * 3600 * S as i64;
        segments.retain(&settings(u64::MAX, 24 * 3600), 150 * S, WALL + year);
        assert_eq!(numbers(&segments), (5..=15).collect::<Vec<_>>());
        // Set back a year: those of earlier runs are as old as this run at least.
        segments.retain(&settings(u64::MAX, 24 * 3600), 150 * S, WALL - year);
        assert_eq!(numbers(&segments).len(), 11);
        segments.retain(&settings(u64::MAX, 24 * 3600), 100_000 * S, WALL - year);
        assert_eq!(numbers(&segments), (9..=15).collect::<Vec<_>>());
    }
}
