//! Which processes are PHP, and what each is for: by program, title and libraries. A title is
//! chosen by the process itself, and is only believed where the program is PHP.

use std::io;
use std::sync::Arc;

use super::looker::Looker;
use super::target::Target;
use crate::enrich::php;
use crate::event::{Php, ProcessKey};

/// Servers that may have PHP as a library.
const SERVERS: [&str; 4] = ["apache2", "httpd", "unitd", "uwsgi"];
/// Scripts whose next argument says what they do.
const CONSOLES: [&str; 9] =
    ["artisan", "console", "wp", "drush", "occ", "magento", "yii", "craft", "typo3"];
/// Options of the php command that have a value of their own.
const WITH_VALUE: [&str; 12] =
    ["-d", "-c", "-z", "-t", "-B", "-R", "-F", "-E", "--define", "--php-ini", "--docroot", "--rf"];
const JOB_BYTES: usize = 256;

/// A PHP process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Process id and start.
    pub key: ProcessKey,
    /// Parent.
    pub ppid: u32,
    /// How PHP is run, as far as the program's name tells.
    pub sapi: Arc<str>,
    /// What it is for.
    pub role: Role,
    /// `8.2`, where the program's name tells.
    pub version: Option<Arc<str>>,
}

/// What a PHP process is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// FPM's master: serves nothing itself.
    Master,
    /// FPM's worker; None = its title is swapped out.
    Pool(Option<Arc<str>>),
    /// A script on the command line, with its first argument where that says what it does.
    Script(Arc<str>),
    /// Anything else that serves requests.
    Server,
}

/// Who a process is, if it is PHP. `looker` is asked where names alone do not tell.
pub fn recognise(target: &Target, looker: &mut Looker) -> io::Result<Option<Who>> {
    let comm = target.comm();
    let exe = match target.exe_path() {
        Ok(exe) => Some(exe),
        // Its name is then all that is known; a look at it says why.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        // Kernel threads have no program.
        Err(_) => return Ok(None),
    };
    let named = php::identify(comm, None, exe.as_deref(), target.ppid());
    if exe.is_none() && named.is_none() {
        return Ok(None);
    }
    let by_library = named.is_none() && exe.as_deref().is_some_and(may_load_php);
    let hinted = named.is_some() || by_library || comm.contains("php");
    if !hinted {
        return Ok(None);
    }
    if named.is_none() && !looker.has_php(target) {
        return Ok(None);
    }
    let title = target.title()?;
    let text = title.as_deref().map(one_line);
    let sapi: Arc<str> = match &named {
        Some(php) => Arc::clone(&php.sapi),
        None if by_library => "apache".into(),
        None if text.as_deref().is_some_and(|text| text.starts_with("php-fpm: ")) => "fpm".into(),
        None => "other".into(),
    };
    let role = match &*sapi {
        "fpm" => fpm_role(text.as_deref(), target),
        "cli" | "phpdbg" => Role::Script(title.as_deref().map_or("".into(), job)),
        _ => Role::Server,
    };
    let version = named.and_then(|php| php.version);
    Ok(Some(Who { key: target.key(), ppid: target.ppid(), sapi, role, version }))
}

/// PHP in the process of another server (mod_php), by what that server has loaded.
pub fn loaded(tgid: u32, exe: &str) -> Option<Php> {
    if !may_load_php(exe) {
        return None;
    }
    let mappings = Target::open(tgid).and_then(|target| target.mappings()).ok()?;
    let library = mappings.into_iter().find(|mapping| is_library(&mapping.path))?;
    let digits = file_name(&library.path).trim_matches(|c: char| !c.is_ascii_digit());
    let version = Some(digits).filter(|digits| digits.contains('.')).map(Into::into);
    Some(Php { sapi: "apache".into(), pool: None, master_tgid: None, version })
}

/// Whether a program may have PHP as a library.
pub fn may_load_php(exe: &str) -> bool {
    let name = file_name(exe.strip_suffix(" (deleted)").unwrap_or(exe));
    SERVERS.contains(&name) || name.contains("php")
}

/// `libphp8.2.so`, `libphp.so`, `mod_php8.so`.
pub fn is_library(path: &str) -> bool {
    let name = file_name(path.strip_suffix(" (deleted)").unwrap_or(path));
    let rest = name.strip_prefix("libphp").or_else(|| name.strip_prefix("mod_php"));
    rest.and_then(|rest| rest.strip_suffix(".so").or(rest.split_once(".so.").map(|(v, _)| v)))
        .is_some_and(|version| version.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

fn fpm_role(title: Option<&str>, target: &Target) -> Role {
    match title {
        Some(title) if title.starts_with("php-fpm: master process") => Role::Master,
        // The program is known to be FPM, by whatever name.
        Some(title) => match php::identify("php-fpm", Some(title), None, 1) {
            Some(php) if php.pool.is_some() => Role::Pool(php.pool),
            _ => Role::Master,
        },
        // A worker's parent runs the same program.
        None => {
            let parent = Target::open(target.ppid()).and_then(|parent| parent.exe_id());
            match (parent, target.exe_id()) {
                (Ok(parent), Ok(own)) if parent != own => Role::Master,
                _ => Role::Pool(None),
            }
        }
    }
}

/// The script that `php …` runs, and what it is told to do: `artisan queue:work`. Other arguments
/// can be secrets.
fn job(title: &[u8]) -> Arc<str> {
    let mut words = title
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .skip(1);
    let mut script = None;
    while let Some(word) = words.next() {
        match &*word {
            "-r" | "--run" => return "-r".into(),
            "-S" | "--server" => return "-S".into(),
            "-f" | "--file" => script = words.next(),
            "--" => continue,
            option if WITH_VALUE.contains(&option) => {
                words.next();
                continue;
            }
            option if option.starts_with('-') && option.len() > 1 => continue,
            _ => script = Some(word),
        }
        break;
    }
    let Some(mut job) = script else { return "".into() };
    let console = file_name(&job).trim_end_matches(".php").trim_end_matches(".phar").to_owned();
    if CONSOLES.contains(&&*console)
        && let Some(command) = words.find(|word| !word.starts_with('-'))
        && command.len() <= 64
        && command.chars().all(|c| c.is_ascii_alphanumeric() || ":_.-".contains(c))
    {
        job.push(' ');
        job.push_str(&command);
    }
    job[..job.floor_char_boundary(JOB_BYTES)].into()
}

fn one_line(title: &[u8]) -> String {
    let end = title.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |at| at + 1);
    String::from_utf8_lossy(&title[..end]).replace('\0', " ")
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_named_with_what_they_do_and_nothing_else() {
        for (title, expected) in [
            (&b"php\0artisan\0queue:work\0--queue=high\0"[..], "artisan queue:work"),
            (
                b"php\0/srv/app/bin/console\0--env=prod\0messenger:consume\0async\0",
                "/srv/app/bin/console messenger:consume",
            ),
            (b"php8.2\0-d\0memory_limit=1G\0-f\0cron.php\0--password=x\0", "cron.php"),
            (b"php\0-dmemory_limit=1G\0import.php\0secret\0", "import.php"),
            (b"php\0-r\0echo 1;\0", "-r"),
            (b"php\0wp\0s3cret value\0", "wp"),
            (b"php\0--\0a.php\0", "a.php"),
            (b"php\0", ""),
            (b"", ""),
            (b"php\0-d\0", ""),
            (b"php\0\xff\x1b[2J\0", "\u{fffd}\u{1b}[2J"),
        ] {
            assert_eq!(&*job(title), expected);
        }
        let long = [&b"php\0"[..], "é".repeat(3000).as_bytes()].concat();
        assert_eq!(job(&long).len(), JOB_BYTES);
    }

    #[test]
    fn libraries_and_the_servers_that_load_them() {
        for path in [
            "/usr/lib/apache2/modules/libphp8.2.so",
            "/x/libphp.so",
            "/x/libphp7.so (deleted)",
            "/x/mod_php8.so",
            "/usr/lib/libphp8.3.so.1",
        ] {
            assert!(is_library(path), "{path}");
        }
        for path in ["", "/x/libphp.a", "/x/libphpx.so", "/x/php.so", "/x/libpng.so"] {
            assert!(!is_library(path), "{path}");
        }
        assert!(may_load_php("/usr/sbin/apache2") && may_load_php("/opt/php-fpm8 (deleted)"));
        assert!(!may_load_php("/bin/bash"));
    }

    #[test]
    fn this_process_is_no_php() {
        let target = Target::open(std::process::id()).unwrap();
        assert_eq!(recognise(&target, &mut Looker::new()).unwrap(), None);
    }
}
