//! The grammar over the tokens, with the expressions that values are.

use super::constant;
use super::lexer::{Lexer, Token};

/// Deepest nesting of brackets, and of variables, in a value.
const MAX_DEPTH: u32 = 100;

/// What a text says, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// `[name]`.
    Section(String),
    /// `key = value`; without `=` there is no value.
    Entry {
        /// The name.
        key: String,
        /// None without a `=`.
        value: Option<String>,
    },
    /// `key[offset] = value`.
    Element {
        /// The name before the brackets.
        key: String,
        /// What stands in them; empty for `key[]`.
        offset: String,
        /// The value.
        value: String,
    },
}

/// How a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it was read.
    Whole,
    /// A syntax error; what follows it is lost.
    Syntax {
        /// From 1.
        line: u32,
    },
}

/// Who reads a text.
pub trait Reader {
    /// Whether a variable may have a fallback, as from PHP 8.3 on.
    fn has_fallbacks(&self) -> bool;

    /// What `${name}` or `${name:-fallback}` stands for; empty where there is none.
    fn variable(&mut self, name: &str, fallback: Option<&str>, line: u32) -> String;

    /// A statement that begins in `line`, from 1. False ends the reading.
    fn statement(&mut self, line: u32, statement: Statement) -> bool;
}

/// Reads `text`.
pub fn parse(text: &[u8], reader: &mut dyn Reader) -> End {
    let lexer = Lexer::new(text, reader.has_fallbacks());
    let mut parser = Parser { lexer, token: Token::End, line: 1, variables: 0, reader };
    parser.advance();
    loop {
        let line = parser.line;
        let statement = match parser.statement() {
            Step::End => return End::Whole,
            Step::Nothing => continue,
            Step::Wrong => return End::Syntax { line },
            Step::Statement(statement) => statement,
        };
        if !parser.reader.statement(line, statement) {
            return End::Whole;
        }
    }
}

enum Step {
    Statement(Statement),
    Nothing,
    End,
    Wrong,
}

/// The text cannot be read on.
struct Wrong;

struct Parser<'a, 'r> {
    lexer: Lexer<'a>,
    /// The one that is looked at next.
    token: Token,
    /// Where it begins.
    line: u32,
    /// Variables that are read, each in the fallback of another.
    variables: u32,
    reader: &'r mut dyn Reader,
}

impl Parser<'_, '_> {
    fn advance(&mut self) -> Token {
        self.line = self.lexer.line();
        let next = self.lexer.next();
        std::mem::replace(&mut self.token, next)
    }

    fn statement(&mut self) -> Step {
        match self.advance() {
            Token::End => Step::End,
            Token::EndOfLine => Step::Nothing,
            Token::Section => match self.section() {
                Ok(name) => Step::Statement(Statement::Section(name)),
                Err(Wrong) => Step::Wrong,
            },
            Token::Label(key) => {
                let key = text(key);
                if self.token != Token::Equals {
                    return Step::Statement(Statement::Entry { key, value: None });
                }
                match self.value() {
                    Ok(value) => Step::Statement(Statement::Entry { key, value: Some(value) }),
                    Err(Wrong) => Step::Wrong,
                }
            }
            Token::Offset(key) => {
                let offset = match self.strings(true) {
                    Ok(offset) => text(offset),
                    Err(Wrong) => return Step::Wrong,
                };
                if self.advance() != Token::Close || self.token != Token::Equals {
                    return Step::Wrong;
                }
                match self.value() {
                    Ok(value) => {
                        Step::Statement(Statement::Element { key: text(key), offset, value })
                    }
                    Err(Wrong) => Step::Wrong,
                }
            }
            // A word like `on` is no name; but the scanner sees the text's end first.
            Token::Bool(_) if self.token == Token::End => Step::End,
            _ => Step::Wrong,
        }
    }

    fn section(&mut self) -> Result<String, Wrong> {
        let name = self.strings(false)?;
        if self.token != Token::Close {
            return Err(Wrong);
        }
        self.advance();
        Ok(text(name))
    }

    /// From the `=` on. What follows a whole value and cannot is the next statement's error.
    fn value(&mut self) -> Result<String, Wrong> {
        self.advance();
        match &self.token {
            Token::EndOfLine => {
                self.advance();
                Ok(String::new())
            }
            Token::Bool(value) => {
                let value = value.to_vec();
                self.advance();
                Ok(text(value))
            }
            _ => self.expression(0).map(text),
        }
    }

    fn expression(&mut self, depth: u32) -> Result<Vec<u8>, Wrong> {
        let mut left = self.operand(depth)?;
        while let Token::Operator(operator @ (b'|' | b'&' | b'^')) = self.token {
            self.advance();
            let right = integer(&self.operand(depth)?);
            let number = integer(&left);
            let result = match operator {
                b'|' => number | right,
                b'&' => number & right,
                _ => number ^ right,
            };
            left = result.to_string().into_bytes();
        }
        Ok(left)
    }

    fn operand(&mut self, depth: u32) -> Result<Vec<u8>, Wrong> {
        if depth > MAX_DEPTH {
            return Err(Wrong);
        }
        match self.token {
            Token::Operator(operator @ (b'~' | b'!')) => {
                self.advance();
                let number = integer(&self.operand(depth + 1)?);
                let result = if operator == b'~' { !number } else { i32::from(number == 0) };
                Ok(result.to_string().into_bytes())
            }
            Token::Operator(b'(') => {
                self.advance();
                let inner = self.expression(depth + 1)?;
                if self.token != Token::Operator(b')') {
                    return Err(Wrong);
                }
                self.advance();
                Ok(inner)
            }
            _ => {
                if !self.at_string() {
                    return Err(Wrong);
                }
                self.strings(true)
            }
        }
    }

    fn at_string(&self) -> bool {
        matches!(self.token, Token::Constant(_) | Token::Text(_) | Token::Quote | Token::Dollar)
    }

    /// Literals, quoted texts and variables side by side; `constants` are looked up.
    fn strings(&mut self, constants: bool) -> Result<Vec<u8>, Wrong> {
        let mut out = Vec::new();
        while self.at_string() {
            match self.advance() {
                Token::Constant(word) => {
                    let known = constants.then(|| constant::value(&String::from_utf8_lossy(&word)));
                    match known.flatten() {
                        Some(value) => out.extend_from_slice(value.as_bytes()),
                        None => out.extend_from_slice(&word),
                    }
                }
                Token::Text(word) => out.extend_from_slice(&word),
                Token::Quote => self.quoted(&mut out)?,
                _ => self.variable(&mut out)?,
            }
        }
        Ok(out)
    }

    fn quoted(&mut self, out: &mut Vec<u8>) -> Result<(), Wrong> {
        loop {
            match self.advance() {
                Token::Quote => return Ok(()),
                Token::Quoted(part) => out.extend_from_slice(&part),
                Token::Dollar => self.variable(out)?,
                _ => return Err(Wrong),
            }
        }
    }

    fn variable(&mut self, out: &mut Vec<u8>) -> Result<(), Wrong> {
        let line = self.line;
        let Token::Name(name) = self.advance() else {
            return Err(Wrong);
        };
        let mut fallback = None;
        if self.token == Token::Fallback {
            if self.variables == MAX_DEPTH {
                return Err(Wrong);
            }
            self.variables += 1;
            self.advance();
            fallback = Some(text(self.strings(true)?));
            self.variables -= 1;
        }
        if self.token != Token::Brace {
            return Err(Wrong);
        }
        self.advance();
        let value = self.reader.variable(&text(name), fallback.as_deref(), line);
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// atoi(): leading blanks and sign, then digits; what is too large is clamped to 64 bit and then cut to 32.
pub fn integer(text: &[u8]) -> i32 {
    let start = text.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != 0x0b);
    let rest = &text[start.unwrap_or(text.len())..];
    let (negative, digits) = match rest.first() {
        Some(b'-') => (true, &rest[1..]),
        Some(b'+') => (false, &rest[1..]),
        _ => (false, rest),
    };
    let mut number: i64 = 0;
    for digit in digits.iter().take_while(|byte| byte.is_ascii_digit()) {
        let digit = i64::from(digit - b'0');
        number = number.saturating_mul(10);
        number = if negative { number.saturating_sub(digit) } else { number.saturating_add(digit) };
    }
    number as i32
}
