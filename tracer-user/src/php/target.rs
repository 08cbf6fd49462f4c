//! A process that is looked at, held by its folder in /proc: whatever is read through it is of this
//! process, and fails once it has ended, even where its tgid is used again.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use crate::enrich::file;
use crate::enrich::stat::Stat;
use crate::event::ProcessKey;

/// Longest title that is read, bytes.
const TITLE_BYTES: usize = 4096;
/// Most of /proc/TGID/maps that is read, bytes.
const MAPS_BYTES: usize = 1 << 20;
const AT_PAGESZ: u64 = 6;
const AT_ENTRY: u64 = 9;
/// Bit of a pagemap entry: the page is in memory.
const PRESENT: u64 = 1 << 63;

/// A file as long as it is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    dev: u64,
    inode: u64,
    mtime_ns: i64,
    bytes: u64,
}

impl FileId {
    /// Of an open file, or of what a path led to.
    pub fn of(metadata: &fs::Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            inode: metadata.ino(),
            mtime_ns: metadata
                .mtime()
                .wrapping_mul(1_000_000_000)
                .wrapping_add(metadata.mtime_nsec()),
            bytes: metadata.len(),
        }
    }

    /// The same, wherever it is mounted: an overlay shows a file of a layer under its own device.
    pub fn on_any_device(self) -> Self {
        Self { dev: 0, ..self }
    }

    /// Device and inode, as /proc/TGID/maps has them.
    pub fn is(&self, mapping: &Mapping) -> bool {
        (self.dev, self.inode) == (mapping.dev, mapping.inode)
    }
}

/// What a process runs. It changes with every exec, also of the same file (unless address space
/// layout randomisation is off, and then nothing moves).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its file.
    pub exe: FileId,
    /// The address where it starts, as the kernel loaded it; 0 = not known.
    pub entry: u64,
}

/// One line of /proc/TGID/maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Where in the file it starts, bytes.
    pub offset: u64,
    /// Shared and writable.
    pub shared: bool,
    /// As stat(2) has it.
    pub dev: u64,
    /// 0 = anonymous.
    pub inode: u64,
    /// File or name; may be cut.
    pub path: String,
}

/// A process by its folder in /proc.
#[derive(Debug)]
pub struct Target {
    folder: File,
    key: ProcessKey,
    ppid: u32,
    comm: String,
}

impl Target {
    /// Not found when there is no such process, or it is ending.
    pub fn open(tgid: u32) -> io::Result<Self> {
        let folder = File::open(format!("/proc/{tgid}"))?;
        let mut buffer = [0; 1024];
        let bytes = file::read(below(&folder, "stat"), &mut buffer).map_err(gone)?;
        let stat = Stat::parse(bytes)?;
        if stat.ended() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (key, ppid, comm) =
            (stat.key(), stat.ppid, String::from_utf8_lossy(stat.comm).into_owned());
        Ok(Self { folder, key, ppid, comm })
    }

    /// Who it is.
    pub fn key(&self) -> ProcessKey {
        self.key
    }

    /// Its parent.
    pub fn ppid(&self) -> u32 {
        self.ppid
    }

    /// Its name.
    pub fn comm(&self) -> &str {
        &self.comm
    }

    /// The program that it runs now; fails once it has ended.
    pub fn exe_id(&self) -> io::Result<FileId> {
        fs::metadata(below(&self.folder, "exe")).map(|found| FileId::of(&found)).map_err(gone)
    }

    /// The name of its program, with ` (deleted)` behind it where that is so.
    pub fn exe_path(&self) -> io::Result<String> {
        let path = fs::read_link(below(&self.folder, "exe")).map_err(gone)?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Opens a file of its folder. Does not wait where that is a pipe.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        options.open(below(&self.folder, name)).map_err(gone)
    }

    /// The program that it runs now; fails once it has ended.
    pub fn program(&self) -> io::Result<Program> {
        let exe = self.exe_id()?;
        Ok(Program { exe, entry: self.auxiliary(AT_ENTRY)?.unwrap_or(0) })
    }

    /// What the kernel told its program at the start.
    fn auxiliary(&self, key: u64) -> io::Result<Option<u64>> {
        let mut buffer = [0; 2048];
        let bytes = file::read(below(&self.folder, "auxv"), &mut buffer).map_err(gone)?;
        let mut pairs = bytes.chunks_exact(16);
        Ok(pairs.find_map(|pair| (word(pair, 0)? == key).then(|| word(pair, 8)).flatten()))
    }

    /// Its tgid in its own pid namespace.
    pub fn own_tgid(&self) -> io::Result<u32> {
        let mut buffer = [0; 4096];
        let bytes = file::read(below(&self.folder, "status"), &mut buffer).map_err(gone)?;
        let text = String::from_utf8_lossy(bytes);
        let line = text.lines().find_map(|line| line.strip_prefix("NStgid:"));
        let last = line.and_then(|line| line.split_whitespace().next_back()?.parse().ok());
        Ok(last.unwrap_or(self.key.tgid))
    }

    /// Its command line, arguments apart by NUL; None where its page is not in memory. Does not
    /// wait for swap.
    pub fn title(&self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = [0; 1024];
        let stat = file::read(below(&self.folder, "stat"), &mut buffer).map_err(gone)?;
        let Some(start) = arg_start(stat) else { return Ok(None) };
        let mut entry = [0; 8];
        let page_bytes = self.auxiliary(AT_PAGESZ)?.filter(|bytes| *bytes >= 4096).unwrap_or(4096);
        let resident = self
            .open_file("pagemap")
            .and_then(|pagemap| pagemap.read_exact_at(&mut entry, start / page_bytes * 8))
            .is_ok_and(|()| u64::from_ne_bytes(entry) & PRESENT != 0);
        if !resident {
            return Ok(None);
        }
        let mut title = vec![0; TITLE_BYTES];
        let bytes = file::read(below(&self.folder, "cmdline"), &mut title).map_err(gone)?.len();
        title.truncate(bytes);
        Ok(Some(title))
    }

    /// Its mappings; of very many, the first.
    pub fn mappings(&self) -> io::Result<Vec<Mapping>> {
        let mut buffer = vec![0; MAPS_BYTES];
        let bytes = file::read_lines(below(&self.folder, "maps"), &mut buffer).map_err(gone)?;
        Ok(bytes.split(|byte| *byte == b'\n').filter_map(mapping).collect())
    }
}

fn below(folder: &File, name: &str) -> String {
    format!("/proc/self/fd/{}/{name}", folder.as_raw_fd())
}

/// A process that ends between open and read says ESRCH.
fn gone(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ESRCH) { io::ErrorKind::NotFound.into() } else { error }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Field 48 of /proc/TGID/stat; 0 where it may not be known.
fn arg_start(stat: &[u8]) -> Option<u64> {
    let rest = stat.get(stat.iter().rposition(|byte| *byte == b')')? + 2..)?;
    let field = rest.split(|byte| *byte == b' ').nth(45)?;
    file::number(field).filter(|address| *address != 0)
}

/// `7f0-7f8 rw-s 00000000 00:01 1287   /dev/zero (deleted)`.
fn mapping(line: &[u8]) -> Option<Mapping> {
    let line = String::from_utf8_lossy(line);
    let mut parts = line.splitn(6, ' ');
    let (start, end) = parts.next()?.split_once('-')?;
    let flags = parts.next()?;
    let offset = parts.next()?;
    let (major, minor) = parts.next()?.split_once(':')?;
    let inode = parts.next()?.parse().ok()?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset: hex(offset)?,
        shared: flags.starts_with("rw") && flags.ends_with('s'),
        dev: libc::makedev(u32::try_from(hex(major)?).ok()?, u32::try_from(hex(minor)?).ok()?),
        inode,
        path: parts.next().unwrap_or_default().trim_start().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps() {
        let line = b"7fdccde6a000-7fdccde6b000 rw-s 00001000 fe:01 1288        /dev/zero (deleted)";
        let read = mapping(line).unwrap();
        assert_eq!((read.start, read.end), (0x7fdc_cde6_a000, 0x7fdc_cde6_b000));
        assert!(read.shared && read.path == "/dev/zero (deleted)");
        assert_eq!((read.offset, read.inode, read.dev), (4096, 1288, libc::makedev(0xfe, 1)));
        assert_eq!(mapping(b"1-2 r--p 0 00:00 0").unwrap().path, "");
        for bad in [&b""[..], b"-", b"zz-1 rw-s 0 0:0 0 x", b"1-2 rw-s", b"\xff\xff \xff"] {
            assert_eq!(mapping(bad), None);
        }
    }

    #[test]
    fn this_process() {
        let target = Target::open(std::process::id()).unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(target.exe_path().unwrap(), exe.to_string_lossy());
        assert_eq!(target.exe_id().unwrap(), FileId::of(&fs::metadata(&exe).unwrap()));
        let entry = target.program().unwrap().entry;
        let mappings = target.mappings().unwrap();
        let holds = mappings.iter().find(|map| (map.start..map.end).contains(&entry)).unwrap();
        assert_eq!(holds.path, exe.to_string_lossy());
        assert_eq!(target.own_tgid().unwrap(), std::process::id());
        let title = target.title().unwrap().unwrap();
        assert!(title.starts_with(std::env::args().next().unwrap().as_bytes()));
        assert_eq!(Target::open(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_process_that_ended_is_not_another_one() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let target = Target::open(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(target.exe_id().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(target.program().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(target.title().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
