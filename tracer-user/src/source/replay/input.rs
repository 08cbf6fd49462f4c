//! Raw bytes of a trace file: a regular file is read in place, anything else (pipe, terminal,
//! fifo) by a thread of its own, so that a writer that pauses does not hold up signals and timers.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use tokio::sync::mpsc;

const CHUNK_BYTES: usize = 128 << 10;
/// Chunks that the thread reads ahead.
const CHUNKS_AHEAD: usize = 2;
const STACK_BYTES: usize = 64 << 10;

/// An open input.
pub enum Input {
    /// Read where it is needed.
    File(File),
    /// Read ahead by a thread, which ends with its reader or its input.
    Stream(mpsc::Receiver<io::Result<Vec<u8>>>),
}

impl Input {
    /// Opens `path`; `-` is the standard input.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = if path == Path::new("-") {
            File::from(io::stdin().as_fd().try_clone_to_owned()?)
        } else {
            File::open(path)?
        };
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if metadata.is_file() {
            return Ok(Self::File(file));
        }
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        thread::Builder::new()
            .name("replay-input".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || read_ahead(file, &sender))?;
        Ok(Self::Stream(receiver))
    }

    /// The next bytes; empty = the end. Dropping the future loses nothing.
    pub async fn chunk(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::File(file) => read(file),
            Self::Stream(receiver) => receiver.recv().await.unwrap_or_else(|| Ok(Vec::new())),
        }
    }
}

fn read_ahead(mut file: File, sender: &mpsc::Sender<io::Result<Vec<u8>>>) {
    loop {
        let chunk = read(&mut file);
        let last = !matches!(&chunk, Ok(bytes) if !bytes.is_empty());
        if sender.blocking_send(chunk).is_err() || last {
            return;
        }
    }
}

fn read(file: &mut File) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk) {
            Ok(length) => {
                chunk.truncate(length);
                return Ok(chunk);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
