//! The constants that exist while php.ini is read, as far as they stand in configurations.

/// What PHP writes for the constant `name`, None where it is none.
pub fn value(name: &str) -> Option<&'static str> {
    // These three are one in any case.
    for (word, value) in [("true", "1"), ("false", ""), ("null", "")] {
        if name.eq_ignore_ascii_case(word) {
            return Some(value);
        }
    }
    Some(match name {
        "E_ERROR" => "1",
        "E_WARNING" => "2",
        "E_PARSE" => "4",
        "E_NOTICE" => "8",
        "E_CORE_ERROR" => "16",
        "E_CORE_WARNING" => "32",
        "E_COMPILE_ERROR" => "64",
        "E_COMPILE_WARNING" => "128",
        "E_USER_ERROR" => "256",
        "E_USER_WARNING" => "512",
        "E_USER_NOTICE" => "1024",
        "E_STRICT" => "2048",
        "E_RECOVERABLE_ERROR" => "4096",
        "E_DEPRECATED" => "8192",
        "E_USER_DEPRECATED" => "16384",
        "E_ALL" => "32767",
        "PHP_INT_MAX" => "9223372036854775807",
        "PHP_INT_MIN" => "-9223372036854775808",
        "PHP_INT_SIZE" => "8",
        "PHP_OS" | "PHP_OS_FAMILY" => "Linux",
        "PHP_EOL" => "\n",
        "DIRECTORY_SEPARATOR" => "/",
        "PATH_SEPARATOR" => ":",
        _ => return None,
    })
}
