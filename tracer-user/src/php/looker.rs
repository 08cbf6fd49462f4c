//! Keeps what looks need: what was read of each binary, and where the state of each process is. All
//! of it can be prepared before there is pressure. A look may wait for the kernel (for a process
//! that holds its mmap_lock, or with [`LookOptions::wait`] for swap): call it from a thread that may.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::elf::Build;
use super::look::{self, Place};
use super::remote::{self, Remote};
use super::request::{Disclosure, Server};
use super::scoreboard::{self, Found};
use super::stack;
use super::target::{FileId, Mapping, Program, Target};
use super::who;
use crate::event::ProcessKey;
use crate::event::look::{Frame, Look, Part, Reason};

/// Most binaries that are known at a time.
const BUILDS: usize = 64;
/// Most processes that are known at a time.
const PROCESSES: usize = 4096;

/// How to look.
#[derive(Clone, Copy, Debug)]
pub struct LookOptions {
    /// No more is read after this time.
    pub timeout: Duration,
    /// Bring in what is swapped out: complete, but it adds to the pressure and can block.
    pub wait: bool,
    /// What of the request is shown.
    pub show: Disclosure,
}

impl Default for LookOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_millis(100), wait: false, show: Disclosure::default() }
    }
}

/// What was read of each binary.
type Builds = FxHashMap<FileId, Result<Arc<Build>, Reason>>;

/// Where the state of a process is.
#[derive(Clone, Debug)]
struct Attached {
    program: Program,
    build: Arc<Build>,
    bias: u64,
    sapi: Option<Arc<str>>,
    slot: Option<u64>,
    own_tgid: u32,
}

/// Looks at PHP processes.
#[derive(Debug, Default)]
pub struct Looker {
    builds: Arc<Mutex<Builds>>,
    processes: FxHashMap<ProcessKey, Attached>,
}

impl Looker {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another one, for another thread: what this one reads of binaries, that one knows.
    pub fn sharing(&self) -> Self {
        Self { builds: Arc::clone(&self.builds), processes: FxHashMap::default() }
    }

    /// Reads the binary of a process (a master's is its workers'), and finds its state.
    pub fn prepare(&mut self, tgid: u32) -> Result<(), Reason> {
        let target = Target::open(tgid).map_err(|error| remote::reason(&error))?;
        let program = target.program().map_err(|error| remote::reason(&error))?;
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut remote = Remote::new(&target, deadline, false)?;
        self.attach(&target, program, &mut remote).map(|_| ())
    }

    /// Whether the program of a process is PHP, or has PHP in it.
    pub fn has_php(&mut self, target: &Target) -> bool {
        target.exe_id().is_ok_and(|exe| !matches!(self.binary(target, exe), Err(Reason::NoPhp)))
    }

    /// Where the pointer to the innermost call of PHP code is in a process that was looked into; None =
    /// not known, or in no form that can be followed.
    pub fn current_at(&self, key: &ProcessKey) -> Option<u64> {
        let attached = self.processes.get(key)?;
        let build = &attached.build;
        Some(
            attached
                .bias
                .wrapping_add(build.executor_globals? + build.layout?.current_execute_data),
        )
    }

    /// Names calls that the kernel saw in a process as (opline, function), innermost first. Empty =
    /// they cannot be named.
    pub fn name(&mut self, key: ProcessKey, calls: &[(u64, u64)]) -> Vec<Frame> {
        self.try_name(key, calls).unwrap_or_default()
    }

    fn try_name(&mut self, key: ProcessKey, calls: &[(u64, u64)]) -> Result<Vec<Frame>, Reason> {
        let target = Target::open(key.tgid).map_err(|error| remote::reason(&error))?;
        if target.key() != key {
            return Err(Reason::Gone);
        }
        let program = target.program().map_err(|error| remote::reason(&error))?;
        let timeout = LookOptions::default().timeout;
        let mut remote = Remote::new(&target, Instant::now() + timeout, false)?;
        let attached = self.attach(&target, program, &mut remote)?;
        let layout = attached.build.layout.ok_or(Reason::NoPhp)?;
        stack::name(&mut remote, &layout, calls.iter().copied())
    }

    /// One look. What could not be had is in [`Look::missing`].
    pub fn look(&mut self, tgid: u32, options: &LookOptions) -> Look {
        match Target::open(tgid) {
            Ok(target) => self.look_at(&target, options),
            Err(error) => {
                let mut look = Look::new(tgid, 0);
                look.miss(Part::All, remote::reason(&error));
                look
            }
        }
    }

    /// The same for a process that is already open.
    pub fn look_at(&mut self, target: &Target, options: &LookOptions) -> Look {
        let started = Instant::now();
        let key = target.key();
        let mut look = Look::new(key.tgid, key.start_ns);
        if let Err(reason) = self.try_look(target, options, started, &mut look) {
            look.miss(Part::All, reason);
        }
        look.took_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        look
    }

    fn try_look(
        &mut self,
        target: &Target,
        options: &LookOptions,
        started: Instant,
        look: &mut Look,
    ) -> Result<(), Reason> {
        let program = target.program().map_err(|error| remote::reason(&error))?;
        let mut remote = Remote::new(target, started + options.timeout, options.wait)?;
        let attached = self.attach(target, program, &mut remote)?;
        look.sapi = attached.sapi.clone();
        look.version = Some(attached.build.version.as_str().into());
        let place = Place {
            build: &attached.build,
            bias: attached.bias,
            server: server(attached.sapi.as_deref()),
            slot: attached.slot,
            own_tgid: attached.own_tgid,
        };
        let found = look::look(&place, &mut remote, options.show, look);
        // What was read of another program, or of nobody, is worth nothing.
        let reason = match target.program() {
            Ok(now) if now == program => return found,
            Ok(_) => Reason::Replaced,
            Err(error) => remote::reason(&error),
        };
        self.processes.remove(&target.key());
        let (sapi, version) = (look.sapi.take(), look.version.take());
        *look = Look { sapi, version, ..Look::new(look.tgid, look.start_ns) };
        Err(reason)
    }

    fn attach(
        &mut self,
        target: &Target,
        program: Program,
        remote: &mut Remote,
    ) -> Result<Attached, Reason> {
        let key = target.key();
        match self.processes.get(&key) {
            Some(known) if known.program == program => return Ok(known.clone()),
            _ => {}
        }
        let gone = |error: io::Error| remote::reason(&error);
        let (build, library) = self.binary(target, program.exe)?;
        let bias = match &library {
            Some(mapping) => mapping.start.wrapping_sub(build.lowest),
            None => program.entry.wrapping_sub(build.entry),
        };
        if !bias.is_multiple_of(4096) {
            return Err(Reason::NoPhp);
        }
        let own_tgid = target.own_tgid().map_err(gone)?;
        let sapi = sapi(remote, &build, bias)?;
        let slot = match sapi.as_deref() {
            Some("fpm") => {
                let mappings = target.mappings().map_err(gone)?;
                scoreboard::find(&mappings, remote, own_tgid)
            }
            _ => Found::Nowhere,
        };
        let attached = Attached { program, build, bias, sapi, slot: slot.address(), own_tgid };
        // A program that has just begun is not yet what it will be.
        if attached.sapi.is_some() && slot != Found::NotYet {
            if self.processes.len() >= PROCESSES {
                self.processes.clear();
            }
            self.processes.insert(key, attached.clone());
        }
        Ok(attached)
    }

    /// The binary of PHP in a process: its program, or a library (then with its first mapping).
    fn binary(
        &mut self,
        target: &Target,
        exe: FileId,
    ) -> Result<(Arc<Build>, Option<Mapping>), Reason> {
        let own = self.build(exe, || target.open_file("exe"));
        if own != Err(Reason::NoPhp) {
            return own.map(|build| (build, None));
        }
        let path = target.exe_path().map_err(|error| remote::reason(&error))?;
        if !who::may_load_php(&path) {
            return Err(Reason::NoPhp);
        }
        let library = library(target).map_err(|error| remote::reason(&error))?;
        let (file, library) = library.ok_or(Reason::NoPhp)?;
        let id = FileId::of(&file.metadata().map_err(|error| remote::reason(&error))?);
        Ok((self.build(id, || Ok(file))?, Some(library)))
    }

    fn build(
        &self,
        id: FileId,
        open: impl FnOnce() -> io::Result<File>,
    ) -> Result<Arc<Build>, Reason> {
        if let Some(known) = self.known_builds().get(&id) {
            return known.clone();
        }
        let file = open().map_err(|error| remote::reason(&error))?;
        // It may have been replaced between the two.
        let id = FileId::of(&file.metadata().map_err(|error| remote::reason(&error))?);
        let build = Build::read(&file).map(Arc::new);
        if matches!(build, Err(Reason::Unreadable { .. })) {
            return build;
        }
        let mut builds = self.known_builds();
        if builds.len() >= BUILDS {
            builds.clear();
        }
        builds.insert(id, build.clone());
        build
    }

    fn known_builds(&self) -> MutexGuard<'_, Builds> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// PHP as a library in a process: its file and its first mapping.
pub(super) fn library(target: &Target) -> io::Result<Option<(File, Mapping)>> {
    let is_start = |mapping: &Mapping| mapping.offset == 0 && who::is_library(&mapping.path);
    let Some(library) = target.mappings()?.into_iter().find(is_start) else { return Ok(None) };
    Ok(Some((open_library(target, &library)?, library)))
}

/// The file behind a mapping. The mapping itself leads to it, also where it was replaced, but that
/// takes CAP_SYS_ADMIN; its path is believed where the same file is there.
fn open_library(target: &Target, library: &Mapping) -> io::Result<File> {
    let mapped = format!("map_files/{:x}-{:x}", library.start, library.end);
    if let Ok(file) = target.open_file(&mapped) {
        return Ok(file);
    }
    let file = target.open_file(&format!("root{}", library.path))?;
    let found = file.metadata()?;
    if found.is_file() && FileId::of(&found).is(library) {
        Ok(file)
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// What PHP calls the way that it is run, in the short form of [`Look::sapi`].
fn sapi(remote: &mut Remote, build: &Build, bias: u64) -> Result<Option<Arc<str>>, Reason> {
    let Some(module) = build.sapi_module else { return Ok(None) };
    let Some(name) = remote.fetch(&[(bias.wrapping_add(module), 8)])?.word(0, 0) else {
        return Ok(None);
    };
    let Some(name) = remote.c_string(name, 32)? else { return Ok(None) };
    Ok(match &name[..] {
        b"" => None,
        b"fpm-fcgi" => Some("fpm".into()),
        b"cgi-fcgi" => Some("cgi".into()),
        b"apache2handler" => Some("apache".into()),
        other if other.is_ascii() => Some(crate::text::lossy(other)),
        _ => None,
    })
}

fn server(sapi: Option<&str>) -> Server {
    match sapi {
        Some("fpm" | "cgi") => Server::FastCgi,
        Some("apache") => Server::Apache,
        Some("cli-server") => Server::BuiltIn,
        _ => Server::Other,
    }
}
