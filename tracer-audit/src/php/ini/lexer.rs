//! Tokens of PHP's ini language. The longest match wins, as in the generated scanner, and the state says what
//! may come: a `]` is part of a name outside of brackets, a `=` ends a value and starts an error.

/// Where the scanner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Initial,
    Value,
    Section,
    Offset,
    Quoted,
    Variable,
    Fallback,
}

/// A token; texts are bytes of any encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// `[` at the start of a statement.
    Section,
    /// `]`.
    Close,
    /// A name.
    Label(Vec<u8>),
    /// A name with `[` behind it.
    Offset(Vec<u8>),
    /// `=`.
    Equals,
    /// on, off, null: as PHP keeps them, `1` and nothing.
    Bool(&'static [u8]),
    /// A word that may be a constant.
    Constant(Vec<u8>),
    /// Any other literal text, blanks too.
    Text(Vec<u8>),
    /// `"`.
    Quote,
    /// Text between quotes, escapes resolved.
    Quoted(Vec<u8>),
    /// `${`.
    Dollar,
    /// What stands in it.
    Name(Vec<u8>),
    /// `:-` behind the name: what follows stands for a variable that nobody has set.
    Fallback,
    /// `}` behind it.
    Brace,
    /// `& | ^ ~ ! ( )`.
    Operator(u8),
    /// End of a line, a comment, or what ends a value.
    EndOfLine,
    /// End of the text.
    End,
    /// What no rule of the grammar takes.
    Wrong,
}

/// Makes tokens of a text.
#[derive(Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    states: Vec<State>,
    has_fallbacks: bool,
    /// From 1, of `counted`.
    line: u32,
    counted: usize,
}

impl<'a> Lexer<'a> {
    /// A lexer over a whole file; variables may have a fallback from PHP 8.3 on.
    pub fn new(text: &'a [u8], has_fallbacks: bool) -> Self {
        let at = if text.len() > 3 && text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Self { text, at, states: vec![State::Initial], has_fallbacks, line: 1, counted: at }
    }

    /// The line, from 1, of the next token.
    pub fn line(&mut self) -> u32 {
        for at in self.counted..self.at.min(self.text.len()) {
            // `\r\n` is one line, and so is a lone `\r`.
            let ends = match self.text[at] {
                b'\n' => true,
                b'\r' => self.text.get(at + 1) != Some(&b'\n'),
                _ => false,
            };
            self.line += u32::from(ends);
        }
        self.counted = self.counted.max(self.at);
        self.line
    }

    /// The next token.
    pub fn next(&mut self) -> Token {
        match self.state() {
            State::Initial => self.initial(),
            State::Value => self.value(),
            State::Section | State::Offset => self.bracket(),
            State::Quoted => self.quoted(),
            State::Variable => self.variable(),
            State::Fallback => self.fallback(),
        }
    }

    fn state(&self) -> State {
        self.states.last().copied().unwrap_or(State::Initial)
    }

    fn become_state(&mut self, state: State) {
        self.states = vec![state];
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    /// Length of the run from `from` on whose bytes are `wanted`.
    fn run(&self, from: usize, wanted: impl Fn(u8) -> bool) -> usize {
        self.text[from.min(self.text.len())..].iter().take_while(|&&byte| wanted(byte)).count()
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let taken = &self.text[self.at..self.at + len];
        self.at += len;
        taken
    }

    /// Length of a line's end at `at`, zero where there is none.
    fn newline(&self, at: usize) -> usize {
        match (self.byte(at), self.byte(at + 1)) {
            (Some(b'\r'), Some(b'\n')) => 2,
            (Some(b'\r' | b'\n'), _) => 1,
            _ => 0,
        }
    }

    /// Length of a comment from `at` on with its line's end, zero where there is none.
    fn comment(&self, at: usize) -> usize {
        if self.byte(at) != Some(b';') {
            return 0;
        }
        let len = self.run(at, |byte| byte != b'\r' && byte != b'\n');
        len + self.newline(at + len)
    }

    /// The line's end or comment of `len` bytes at `at`. A comment in a last line that does not end is the
    /// text's end.
    fn end_of_line(&mut self, at: usize, len: usize) -> Token {
        let comment = self.byte(at) == Some(b';');
        self.at = at + len;
        if comment && self.at == self.text.len() && !matches!(self.text.last(), Some(b'\r' | b'\n'))
        {
            Token::End
        } else {
            Token::EndOfLine
        }
    }

    fn initial(&mut self) -> Token {
        let Some(first) = self.byte(self.at) else {
            return Token::End;
        };
        if first == b'[' {
            self.at += 1;
            self.states.push(State::Section);
            return Token::Section;
        }
        let blanks = self.run(self.at, is_blank);
        let behind = self.at + blanks;
        let label = self.run(self.at, is_label);
        if label > 0 && self.byte(self.at + label) == Some(b'[') {
            let name = trimmed(self.take(label)).to_vec();
            self.at += 1 + self.run(self.at + 1, is_blank);
            self.states.push(State::Offset);
            return Token::Offset(name);
        }
        let end = self.newline(behind).max(self.comment(behind));
        if end > 0 {
            return self.end_of_line(behind, end);
        }
        if self.byte(behind) == Some(b'=') {
            self.at = behind + 1 + self.run(behind + 1, is_blank);
            self.states.push(State::Value);
            return Token::Equals;
        }
        if let Some((value, len)) = self.boolean()
            && len >= label
        {
            self.at += len;
            return Token::Bool(value);
        }
        if label > 0 {
            return Token::Label(trimmed(self.take(label)).to_vec());
        }
        if blanks > 0 {
            self.at = behind;
            return self.initial();
        }
        Token::Wrong
    }

    /// on, off and their kin at the cursor, and their length with the blanks behind them.
    fn boolean(&self) -> Option<(&'static [u8], usize)> {
        const WORDS: [(&[u8], &[u8]); 8] = [
            (b"true", b"1"),
            (b"on", b"1"),
            (b"yes", b"1"),
            (b"false", b""),
            (b"off", b""),
            (b"no", b""),
            (b"none", b""),
            (b"null", b""),
        ];
        let rest = &self.text[self.at..];
        let fits =
            |word: &[u8]| rest.len() >= word.len() && rest[..word.len()].eq_ignore_ascii_case(word);
        let (word, value) =
            WORDS.iter().filter(|(word, _)| fits(word)).max_by_key(|(word, _)| word.len())?;
        Some((value, word.len() + self.run(self.at + word.len(), is_blank)))
    }

    fn value(&mut self) -> Token {
        let Some(first) = self.byte(self.at) else {
            self.become_state(State::Initial);
            return Token::EndOfLine;
        };
        let blanks = self.run(self.at, is_blank);
        let behind = self.at + blanks;
        let end = self.newline(behind).max(self.comment(behind));
        if end > 0 {
            self.become_state(State::Initial);
            return self.end_of_line(behind, end);
        }
        if self.byte(behind) == Some(b'"') {
            self.at = behind + 1;
            self.states.push(State::Quoted);
            return Token::Quote;
        }
        if blanks > 0 {
            return Token::Text(self.take(blanks).to_vec());
        }
        match first {
            b'$' if self.byte(self.at + 1) == Some(b'{') => return self.dollar(),
            b'\'' => return self.apostrophe(true),
            b'=' => {
                self.become_state(State::Initial);
                return Token::EndOfLine;
            }
            b'&' | b'|' | b'^' | b'~' | b'!' | b'(' | b')' => {
                self.at += 1;
                self.at += self.run(self.at, is_blank);
                return Token::Operator(first);
            }
            _ => {}
        }
        let word = self.words(false, |byte| !b"$= \t\n\r;&|^~()!\"'\0".contains(&byte));
        if let Some((value, len)) = self.boolean()
            && len >= word
        {
            self.at += len;
            return Token::Bool(value);
        }
        if word == 0 {
            // A lone `$` or a NUL ends the value.
            self.at += 1;
            self.become_state(State::Initial);
            return Token::EndOfLine;
        }
        word_token(self.take(word))
    }

    /// Length of the longest run of `allowed` bytes, of `$` with what follows it if that opens no variable, and
    /// of a backslash with the byte behind it if `escapes`. `$\$` may be one or the beginning of two: all ways
    /// are followed, as a bit for each of the next places that a way leads to.
    fn words(&self, escapes: bool, allowed: impl Fn(u8) -> bool) -> usize {
        let (mut at, mut ways, mut last) = (self.at, 1_u8, self.at);
        while ways != 0 {
            if ways & 1 != 0 {
                last = at;
                let next = self.byte(at + 1);
                match self.byte(at) {
                    Some(byte) if allowed(byte) => ways |= 2,
                    Some(b'$') if !matches!(next, None | Some(b'{' | 0)) => {
                        ways |= 4;
                        if next == Some(b'\\') && self.byte(at + 2).is_some() {
                            ways |= 8;
                        }
                    }
                    Some(b'\\') if escapes && next.is_some() => ways |= 4,
                    _ => {}
                }
            }
            ways >>= 1;
            at += 1;
        }
        last - self.at
    }

    fn dollar(&mut self) -> Token {
        self.at += 2;
        self.states.push(State::Variable);
        Token::Dollar
    }

    /// `'text'`. One without its fellow ends the value and loses the rest; an empty pair ends the value, and
    /// its second half starts a name.
    fn apostrophe(&mut self, in_value: bool) -> Token {
        let text = self.run(self.at + 1, |byte| byte != b'\'');
        let closed = self.byte(self.at + 1 + text).is_some();
        if closed && text > 0 {
            let whole = self.take(text + 2);
            return Token::Text(whole[1..whole.len() - 1].to_vec());
        }
        if !in_value {
            return Token::Wrong;
        }
        self.at = if closed { self.at + 1 } else { self.text.len() };
        self.become_state(State::Initial);
        Token::EndOfLine
    }

    fn bracket(&mut self) -> Token {
        let Some(first) = self.byte(self.at) else {
            return Token::Wrong;
        };
        let blanks = self.run(self.at, is_blank);
        let behind = self.at + blanks;
        if self.state() == State::Section && first == b']' {
            self.at += 1;
            self.at += self.run(self.at, is_blank);
            self.at += self.newline(self.at);
            self.become_state(State::Initial);
            return Token::Close;
        }
        if self.state() == State::Offset && self.byte(behind) == Some(b']') {
            self.at = behind + 1;
            self.become_state(State::Initial);
            return Token::Close;
        }
        self.literal(first, b']')
    }

    /// Text between brackets, up to `end`.
    fn literal(&mut self, first: u8, end: u8) -> Token {
        let behind = self.at + self.run(self.at, is_blank);
        if self.byte(behind) == Some(b'"') {
            self.at = behind + 1;
            self.states.push(State::Quoted);
            return Token::Quote;
        }
        match first {
            b'$' if self.byte(self.at + 1) == Some(b'{') => return self.dollar(),
            b'\'' => return self.apostrophe(false),
            _ => {}
        }
        let word = self.words(true, |byte| {
            !matches!(byte, b'$' | b'\n' | b'\r' | b';' | b'"' | b'\'' | b'\\') && byte != end
        });
        if word == 0 { Token::Wrong } else { word_token(self.take(word)) }
    }

    fn quoted(&mut self) -> Token {
        let Some(first) = self.byte(self.at) else {
            return Token::Wrong;
        };
        if first == b'"' {
            self.at += 1;
            self.at += self.run(self.at, is_blank);
            self.states.pop();
            return Token::Quote;
        }
        if first == b'$' && self.byte(self.at + 1) == Some(b'{') {
            return self.dollar();
        }
        let mut at = if first == b'\\' && self.byte(self.at + 1) != Some(b'"') {
            self.at + 2
        } else {
            self.at + 1
        };
        while let Some(byte) = self.byte(at) {
            match byte {
                // Escaped, but where the line or the text ends behind it.
                b'"' if at > self.at
                    && self.text[at - 1] == b'\\'
                    && !escaped_backslash(&self.text[self.at..at])
                    && !matches!(self.byte(at + 1), None | Some(b'\r' | b'\n')) =>
                {
                    at += 1;
                }
                b'"' => break,
                b'$' if self.byte(at + 1) == Some(b'{') => break,
                b'\\' if self.byte(at + 1).is_some_and(|next| next != b'"') => at += 2,
                _ => at += 1,
            }
        }
        let at = at.min(self.text.len());
        Token::Quoted(unescaped(self.take(at - self.at)))
    }

    fn variable(&mut self) -> Token {
        let mut label = self.run(self.at, is_label);
        let run = &self.text[self.at..self.at + label];
        let cut = run.windows(2).position(|two| two == b":-").filter(|_| self.has_fallbacks);
        if cut == Some(0) {
            self.at += 2;
            self.states.pop();
            self.states.push(State::Fallback);
            return Token::Fallback;
        }
        label = cut.unwrap_or(label);
        if label > 0 {
            return Token::Name(trimmed(self.take(label)).to_vec());
        }
        if self.byte(self.at) == Some(b'}') {
            self.at += 1;
            self.states.pop();
            return Token::Brace;
        }
        Token::Wrong
    }

    fn fallback(&mut self) -> Token {
        match self.byte(self.at) {
            Some(b'}') => {
                self.at += 1;
                self.states.pop();
                Token::Brace
            }
            Some(first) => self.literal(first, b'}'),
            None => Token::Wrong,
        }
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn is_label(byte: u8) -> bool {
    !b"=\n\r\t;&|^$~(){}!\"[".contains(&byte)
}

fn trimmed(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| is_blank(*byte);
    let start = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

fn word_token(word: &[u8]) -> Token {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if !word[0].is_ascii_digit() && word.iter().all(letter) {
        Token::Constant(word.to_vec())
    } else {
        Token::Text(word.to_vec())
    }
}

/// Whether the backslash at the end of `text` is itself escaped.
fn escaped_backslash(text: &[u8]) -> bool {
    text.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 0
}

/// `\"`, `\\` and `\$` without the backslash; all others keep theirs.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            None => out.push(b'\\'),
            Some(escaped @ (b'"' | b'\\' | b'$')) => out.push(escaped),
            Some(other) => out.extend([b'\\', other]),
        }
    }
    out
}
