//! A regular file that grows by whole blocks: when a write fails, it is cut back to the last one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// An open file.
#[derive(Debug)]
pub(super) struct Appended {
    file: File,
    end_bytes: u64,
    /// There may be more behind the end.
    is_torn: bool,
}

impl Appended {
    /// Begins at byte 0; what the file held is gone with the first block.
    pub fn new(file: File) -> Self {
        Self { file, end_bytes: 0, is_torn: true }
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where the last whole block ends.
    pub fn end_bytes(&self) -> u64 {
        self.end_bytes
    }

    /// Whether a failed write may have left a part of a block behind the end.
    pub fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// Writes one block, which lies in `parts`. After an error the same block must be given again.
    pub fn write(&mut self, parts: [&[u8]; 2]) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.end_bytes)?;
            self.is_torn = false;
        }
        let mut end_bytes = self.end_bytes;
        for part in parts {
            if let Err(error) = self.file.write_all_at(part, end_bytes) {
                self.is_torn = self.file.set_len(self.end_bytes).is_err();
                return Err(error);
            }
            end_bytes += part.len() as u64;
        }
        self.end_bytes = end_bytes;
        Ok(())
    }
}
