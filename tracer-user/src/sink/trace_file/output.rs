//! Where the blocks of a trace go: a regular file, which is cut back to the last whole block when
//! a write fails, or a stream (pipe, terminal, device), which goes on where it stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::sink::append::Appended;

/// An open output.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    kind: Kind,
    is_new: bool,
}

#[derive(Debug)]
enum Kind {
    File(Appended),
    /// `sent_bytes` of the block under way went out before the last error.
    Stream {
        file: File,
        sent_bytes: usize,
    },
}

impl Output {
    /// Opens `path` or creates it, readable by its owner only: command lines hold secrets. What it
    /// held is gone with the first block. `-` is the standard output.
    pub fn create(path: &Path) -> io::Result<Self> {
        let (file, is_new) = if path == Path::new("-") {
            (File::from(io::stdout().as_fd().try_clone_to_owned()?), false)
        } else {
            open(path)?
        };
        let kind = if path != Path::new("-") && file.metadata()?.is_file() {
            Kind::File(Appended::new(file))
        } else {
            Kind::Stream { file, sent_bytes: 0 }
        };
        Ok(Self { path: path.to_owned(), kind, is_new })
    }

    /// Leaves no trace of a run that did not begin: removes the file if it was made for it.
    pub fn abandon(self) {
        if self.is_new && self.end_bytes() == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// A stream that is open already.
    #[cfg(test)]
    pub fn stream(file: File) -> Self {
        Self { path: PathBuf::new(), kind: Kind::Stream { file, sent_bytes: 0 }, is_new: false }
    }

    /// Bytes of whole blocks in the current file; 0 for a stream.
    pub fn end_bytes(&self) -> u64 {
        match &self.kind {
            Kind::File(file) => file.end_bytes(),
            Kind::Stream { .. } => 0,
        }
    }

    /// Writes one block. After an error the same block must be given again.
    pub fn write_block(&mut self, block: &[u8]) -> io::Result<()> {
        match &mut self.kind {
            Kind::File(file) => file.write([block, &[]])?,
            Kind::Stream { file, sent_bytes } => {
                while *sent_bytes < block.len() {
                    match file.write(&block[*sent_bytes..]) {
                        Ok(0) => return Err(ErrorKind::WriteZero.into()),
                        Ok(written) => *sent_bytes += written,
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                *sent_bytes = 0;
            }
        }
        Ok(())
    }

    /// Moves the file to FILE.1, FILE.1 to FILE.2 … up to FILE.`keep`, and goes on with an empty
    /// one. After an error the old file goes on to be written, whatever its name is by then.
    pub fn rotate(&mut self, keep: u32) -> io::Result<()> {
        let next = numbered(&self.path, "next");
        let (file, _) = open(&next)?;
        for number in (1..keep).rev() {
            let from = numbered(&self.path, &number.to_string());
            match fs::rename(&from, numbered(&self.path, &(number + 1).to_string())) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if keep > 0 {
            fs::rename(&self.path, numbered(&self.path, "1"))?;
        }
        fs::rename(&next, &self.path)?;
        self.kind = Kind::File(Appended::new(file));
        Ok(())
    }

    /// Waits until a regular file is on its disk.
    pub fn sync(&self) -> io::Result<()> {
        match &self.kind {
            Kind::File(file) => file.file().sync_all(),
            Kind::Stream { .. } => Ok(()),
        }
    }
}

/// The file, and whether it was not there before.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok((options.create(true).truncate(false).open(path)?, false))
        }
        file => Ok((file?, true)),
    }
}

fn numbered(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_keeps_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        let mut output = Output::create(&path).unwrap();
        for round in b'a'..=b'e' {
            output.write_block(&[round]).unwrap();
            output.rotate(2).unwrap();
        }
        output.write_block(b"f").unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!((read("t"), read("t.1"), read("t.2")), ("f".into(), "e".into(), "d".into()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn nothing_is_kept_with_keep_0() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        let mut output = Output::create(&path).unwrap();
        output.write_block(b"old").unwrap();
        output.rotate(0).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_old_file_is_replaced_by_the_first_block_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        fs::write(&path, "a trace that is longer than the new one").unwrap();
        Output::create(&path).unwrap().abandon();
        assert!(fs::read_to_string(&path).unwrap().starts_with("a trace"));
        Output::create(&path).unwrap().write_block(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        let new = folder.path().join("new");
        Output::create(&new).unwrap().abandon();
        assert!(!new.exists());
    }

    #[test]
    fn a_device_without_room_is_an_error_each_time() {
        let mut output = Output::create(Path::new("/dev/full")).unwrap();
        for _ in 0..2 {
            let error = output.write_block(b"x").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        }
    }
}
