//! php-fpm's own configuration: php-fpm.conf and the pool files that it includes.

pub mod check;
pub mod conf;
pub mod directive;

pub use conf::{Conf, PhpValue, RawPool, Source};
pub use directive::Manager;
