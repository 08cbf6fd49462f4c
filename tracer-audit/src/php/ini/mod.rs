//! PHP's own ini language: the one of php.ini, conf.d and, line by line, of php-fpm.conf.
//!
//! Follows the scanner and grammar of PHP 7.4 to 8.5 in their normal mode, with what a reader of one file
//! would not expect: values are expressions (`64M|1` is 65), a `#` is no comment, an apostrophe without its
//! fellow ends the value, and after a syntax error nothing of the file counts but what stood before it.

mod constant;
pub mod files;
mod lexer;
mod parser;
pub mod quantity;

pub use parser::{End, Reader, Statement, integer, parse};
