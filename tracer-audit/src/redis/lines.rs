//! The lines of joined files, cut as redis cuts them.

use std::path::Path;
use std::sync::Arc;

use crate::origin::Origin;

/// Most lines of one server's files that are followed.
pub const MAX_LINES: usize = 50_000;

/// Most bytes that redis takes from a file at once; in each lot a NUL ends the text.
const LOT_BYTES: usize = 1024;

/// Lines of several files, one behind the other: where the one has no end, the other goes on in the same line.
#[derive(Default)]
pub struct Lines {
    done: Vec<(Vec<u8>, Origin)>,
    open: Option<(Vec<u8>, Origin)>,
}

impl Lines {
    /// The lines of one more file.
    pub fn push(&mut self, bytes: &[u8], file: &Arc<Path>) {
        for (number, line) in (1..).zip(bytes.split_inclusive(|&byte| byte == b'\n')) {
            // One more, by which it is seen.
            if self.done.len() > MAX_LINES {
                return;
            }
            for lot in line.chunks(LOT_BYTES) {
                let text = lot.split(|&byte| byte == 0).next().unwrap_or_default();
                let open = self.open.get_or_insert_with(|| (Vec::new(), Origin::new(file, number)));
                match text.strip_suffix(b"\n") {
                    Some(text) => {
                        open.0.extend(text);
                        self.done.extend(self.open.take());
                    }
                    None => open.0.extend(text),
                }
            }
        }
    }

    /// All lines, each with the place of its beginning.
    pub fn finish(mut self) -> Vec<(Vec<u8>, Origin)> {
        self.done.extend(self.open);
        self.done
    }
}
