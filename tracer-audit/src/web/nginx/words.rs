//! Words of nginx's files.

use super::read::Refused;

/// What ended a directive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `;`
    Semicolon,
    /// `{`
    BlockOpens,
    /// `}`
    BlockCloses,
    /// The text's end.
    File,
}

/// Cuts a text into words.
pub struct Words<'a> {
    text: &'a [u8],
    at: usize,
    /// From 1.
    pub line: u32,
}

impl<'a> Words<'a> {
    /// Over a whole file.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, line: 1 }
    }

    fn bump(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        self.line += u32::from(byte == b'\n');
        Some(byte)
    }

    /// The words of the next directive, the line of the first, and what ended it.
    pub fn directive(&mut self) -> Result<(Vec<String>, u32, End), Refused> {
        let mut words: Vec<String> = Vec::new();
        let mut first = self.line;
        loop {
            let line = self.line;
            let Some(byte) = self.bump() else {
                return if words.is_empty() {
                    Ok((words, line, End::File))
                } else {
                    Err(Refused::End)
                };
            };
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                b'#' => {
                    while self.text.get(self.at).is_some_and(|&byte| byte != b'\n') {
                        self.at += 1;
                    }
                    continue;
                }
                b';' | b'{' if words.is_empty() => {
                    return Err(Refused::Unexpected { what: byte.into() });
                }
                b';' => return Ok((words, first, End::Semicolon)),
                b'{' => return Ok((words, first, End::BlockOpens)),
                b'}' if words.is_empty() => return Ok((words, line, End::BlockCloses)),
                b'}' => return Err(Refused::Unexpected { what: '}' }),
                _ => {}
            }
            if words.is_empty() {
                first = line;
            }
            self.at -= 1;
            let word = match byte {
                b'"' | b'\'' => self.quoted(byte)?,
                _ => self.plain()?,
            };
            words.push(word);
        }
    }

    fn quoted(&mut self, quote: u8) -> Result<String, Refused> {
        self.at += 1;
        let mut word = Vec::new();
        loop {
            match self.bump().ok_or(Refused::End)? {
                b'\\' => {
                    let next = self.bump().ok_or(Refused::End)?;
                    escape(next, &mut word);
                }
                byte if byte == quote => break,
                byte => word.push(byte),
            }
        }
        // A blank, or what ends the directive, has to follow.
        match self.text.get(self.at) {
            None => Err(Refused::End),
            Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'{' | b')') => Ok(text(word)),
            Some(&other) => Err(Refused::Unexpected { what: other.into() }),
        }
    }

    fn plain(&mut self) -> Result<String, Refused> {
        let mut word = Vec::new();
        let mut variable = false;
        loop {
            let byte = *self.text.get(self.at).ok_or(Refused::End)?;
            let opens = byte == b'{' && !variable;
            if matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b';') || opens {
                return Ok(text(word));
            }
            self.bump();
            variable = byte == b'$';
            if byte == b'\\' {
                let next = self.bump().ok_or(Refused::End)?;
                escape(next, &mut word);
            } else {
                word.push(byte);
            }
        }
    }

    /// Goes behind the `}` of a block of another language, whose `{` was read. False where there is none.
    pub fn skip_block(&mut self) -> bool {
        let mut depth = 1;
        while let Some(byte) = self.bump() {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return true;
            }
        }
        false
    }
}

fn escape(byte: u8, word: &mut Vec<u8>) {
    match byte {
        b'"' | b'\'' | b'\\' => word.push(byte),
        b't' => word.push(b'\t'),
        b'r' => word.push(b'\r'),
        b'n' => word.push(b'\n'),
        other => word.extend([b'\\', other]),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}
