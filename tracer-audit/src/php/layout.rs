//! Where the builds of PHP that are about keep their files: Debian's, Alpine's, Red Hat's, Remi's, the
//! official images'. Each has its paths compiled in.

use std::path::{Path, PathBuf};

use super::Version;
use super::ini::files::Places;
use crate::root::Root;

/// One php-fpm that a configuration is there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// None where the path does not tell.
    pub version: Option<Version>,
    /// php-fpm.conf.
    pub conf: PathBuf,
    /// php.ini and conf.d.
    pub places: Places,
    /// What relative paths in php-fpm.conf are below.
    pub prefix: PathBuf,
    /// The program.
    pub binary: PathBuf,
}

/// All that `root` has a php-fpm.conf of.
pub fn all(root: &Root) -> Vec<Layout> {
    let found = |pattern: &str| root.glob(Path::new(pattern)).unwrap_or_default();
    let mut layouts: Vec<Layout> = Vec::new();
    for conf in found("/etc/php/*/fpm/php-fpm.conf") {
        let version = conf.iter().nth(3).and_then(|name| Version::dotted(name.to_str()?));
        layouts.extend(version.map(debian));
    }
    for conf in found("/etc/php[0-9]*/php-fpm.conf") {
        let name = conf.iter().nth(2).and_then(|name| name.to_str()?.strip_prefix("php"));
        let version = name.and_then(Version::short);
        let folder = conf.parent().unwrap_or(Path::new("/etc"));
        let binary = format!("/usr/sbin/php-fpm{}", name.unwrap_or_default());
        layouts.push(plain(version, folder, folder, "conf.d", "/usr", &binary));
    }
    for conf in found("/etc/opt/remi/php*/php-fpm.conf") {
        let name = conf.iter().nth(4).and_then(|name| name.to_str()).unwrap_or_default();
        let version = name.strip_prefix("php").and_then(Version::short);
        let folder = conf.parent().unwrap_or(Path::new("/etc"));
        let prefix = format!("/opt/remi/{name}/root/usr");
        let binary = format!("{prefix}/sbin/php-fpm");
        layouts.push(plain(version, folder, folder, "php.d", &prefix, &binary));
    }
    let etc = Path::new("/etc");
    let local = Path::new("/usr/local/etc");
    let php = local.join("php");
    layouts.extend([
        plain(None, etc, etc, "php.d", "/usr", "/usr/sbin/php-fpm"),
        plain(None, local, &php, "conf.d", "/usr/local", "/usr/local/sbin/php-fpm"),
    ]);
    layouts.retain(|layout| root.exists(&layout.conf));
    layouts
}

/// Debian's, and those of Ondřej Surý.
pub fn debian(version: Version) -> Layout {
    let folder = PathBuf::from(format!("/etc/php/{version}/fpm"));
    Layout {
        version: Some(version),
        conf: folder.join("php-fpm.conf"),
        places: places(&folder, "fpm-fcgi", "conf.d"),
        prefix: PathBuf::from("/usr"),
        binary: PathBuf::from(format!("/usr/sbin/php-fpm{version}")),
    }
}

/// php.ini of `sapi` in `folder`, and the folder `scan` beside it.
pub fn places(folder: &Path, sapi: &str, scan: &str) -> Places {
    Places {
        main: vec![folder.join(format!("php-{sapi}.ini")), folder.join("php.ini")],
        scan: vec![folder.join(scan)],
    }
}

fn plain(
    version: Option<Version>,
    conf: &Path,
    ini: &Path,
    scan: &str,
    prefix: &str,
    binary: &str,
) -> Layout {
    Layout {
        version,
        conf: conf.join("php-fpm.conf"),
        places: places(ini, "fpm-fcgi", scan),
        prefix: PathBuf::from(prefix),
        binary: PathBuf::from(binary),
    }
}

/// The layout that a running master with the program `binary` and the file `conf` belongs to; None where it is none
/// of the known ones.
pub fn of_master(known: &[Layout], conf: &Path, binary: Option<&Path>) -> Option<Layout> {
    let same = known.iter().find(|layout| layout.conf == conf);
    let by_binary = || {
        let binary = binary?;
        let name = binary.file_name()?.to_str()?.strip_prefix("php-fpm")?;
        let debian = Version::dotted(name).map(debian);
        debian.or_else(|| known.iter().find(|layout| layout.binary == binary).cloned())
    };
    let layout = same.cloned().or_else(by_binary)?;
    Some(Layout { conf: conf.to_path_buf(), ..layout })
}

/// What a build of its own is likely to have: php.ini beside php-fpm.conf.
pub fn unknown(conf: &Path, binary: Option<&Path>) -> Layout {
    let binary = binary.unwrap_or(Path::new("/usr/sbin/php-fpm"));
    let prefix = binary.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    let folder = conf.parent().unwrap_or(Path::new("/etc"));
    Layout {
        version: None,
        conf: conf.to_path_buf(),
        places: places(folder, "fpm-fcgi", "php.d"),
        prefix: prefix.to_path_buf(),
        binary: binary.to_path_buf(),
    }
}
