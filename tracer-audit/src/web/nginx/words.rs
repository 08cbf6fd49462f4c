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

/// nginx's buffer: what does not fit in, with what follows it, is refused (NGX_CONF_BUFFER).
const BUFFER_BYTES: usize = 4096;

/// Words of a directive that are kept: longer ones are lists, which nobody asks for.
const MAX_WORDS: usize = 8;

/// Cuts a text into words, as ngx_conf_read_token() does.
pub struct Words<'a> {
    text: &'a [u8],
    at: usize,
    /// From 1.
    pub line: u32,
    /// Where the last word, comment or blank begins, and its line: from there on the buffer is filled.
    begin: (usize, u32),
}

impl<'a> Words<'a> {
    /// Over a whole file.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, line: 1, begin: (0, 1) }
    }

    /// The next byte, which stays; None at the end.
    fn peek(&mut self) -> Result<Option<u8>, Refused> {
        let next = self.text.get(self.at).copied();
        if next.is_some() && self.at - self.begin.0 >= BUFFER_BYTES {
            self.line = self.begin.1;
            return Err(Refused::TooLong);
        }
        Ok(next)
    }

    fn bump(&mut self) -> Result<Option<u8>, Refused> {
        let next = self.peek()?;
        self.at += usize::from(next.is_some());
        self.line += u32::from(next == Some(b'\n'));
        Ok(next)
    }

    /// The first words of the next directive, the line of the first, and what ended it.
    pub fn directive(&mut self) -> Result<(Vec<String>, u32, End), Refused> {
        let mut words: Vec<String> = Vec::new();
        let mut first = self.line;
        self.begin = (self.at, self.line);
        loop {
            let line = self.line;
            let Some(byte) = self.peek()? else {
                return if words.is_empty() {
                    Ok((words, line, End::File))
                } else {
                    Err(Refused::End)
                };
            };
            self.begin = (self.at, line);
            let word = match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    self.bump()?;
                    continue;
                }
                b'#' => {
                    while self.peek()?.is_some_and(|byte| byte != b'\n') {
                        self.bump()?;
                    }
                    continue;
                }
                b';' | b'{' if words.is_empty() => {
                    return Err(Refused::Unexpected { what: byte.into() });
                }
                b'}' if !words.is_empty() => return Err(Refused::Unexpected { what: '}' }),
                b';' | b'{' | b'}' => {
                    self.bump()?;
                    return Ok(match byte {
                        b';' => (words, first, End::Semicolon),
                        b'{' => (words, first, End::BlockOpens),
                        _ => (words, line, End::BlockCloses),
                    });
                }
                b'"' | b'\'' => self.quoted(byte)?,
                _ => self.plain()?,
            };
            if words.is_empty() {
                first = line;
            }
            if words.len() < MAX_WORDS {
                words.push(word);
            }
        }
    }

    fn quoted(&mut self, quote: u8) -> Result<String, Refused> {
        self.bump()?;
        self.begin.0 = self.at;
        let mut word = Vec::new();
        loop {
            match self.bump()?.ok_or(Refused::End)? {
                b'\\' => {
                    let next = self.bump()?.ok_or(Refused::End)?;
                    escape(next, &mut word);
                }
                byte if byte == quote => break,
                byte => word.push(byte),
            }
        }
        // A blank, or what ends the directive, has to follow.
        match self.peek()?.ok_or(Refused::End)? {
            b' ' | b'\t' | b'\r' | b'\n' => {
                self.bump()?;
            }
            b';' | b'{' | b')' => {}
            other => return Err(Refused::Unexpected { what: other.into() }),
        }
        Ok(text(word))
    }

    fn plain(&mut self) -> Result<String, Refused> {
        let mut word = Vec::new();
        let mut variable = false;
        loop {
            let byte = self.peek()?.ok_or(Refused::End)?;
            let opens = byte == b'{' && !variable;
            if opens || byte == b';' {
                return Ok(text(word));
            }
            self.bump()?;
            if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Ok(text(word));
            }
            variable = byte == b'$' || byte == b'{';
            if byte == b'\\' {
                let next = self.bump()?.ok_or(Refused::End)?;
                escape(next, &mut word);
            } else {
                word.push(byte);
            }
        }
    }

    /// Goes behind the `}` of a block of another language, whose `{` was read. False where there is none.
    pub fn skip_block(&mut self) -> bool {
        let mut depth = 1;
        while depth > 0 {
            // Its own reader has another buffer.
            self.begin.0 = self.at;
            match self.bump() {
                Ok(Some(b'{')) => depth += 1,
                Ok(Some(b'}')) => depth -= 1,
                Ok(Some(_)) => {}
                _ => return false,
            }
        }
        true
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
