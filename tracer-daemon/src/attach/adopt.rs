//! Turns on the heap sampler of a program whose sampler is off, and off again.
//!
//! The only file that writes to a target: 8 bytes, `runtime.MemProfileRate`, and only where the user has asked for it by
//! `--adopt-sampler`. What is written is noted in a file first, so that [`Leftovers::restore`] can undo it after we
//! were killed. Refuses a value other than 0, and a variable of whose place it is not sure: a wrong write can break the target.
//!
//! All goes through one descriptor of `/proc/PID/mem`. It belongs to the memory that the process had when it was opened: after an
//! `exec`, or under a reused pid, it reads and writes nothing.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use procfs::process::{MMPermissions, Process};
use serde::{Deserialize, Serialize};

use crate::addr::{Avma, LoadBias};
use crate::discover::{Presence, ProcessIdentity, presence};
use crate::inspect::{BinaryFacts, FoundBy, Global, GlobalMissing};

/// Where it is noted what was written.
pub const STATE_FOLDER: &str = "/run/leakline";
/// Mean bytes between two samples: Go's own default (`MemProfileRate` in runtime/mprof.go).
const RATE_BYTES: i64 = 512 * 1024;
/// Longest note that is read.
const NOTE_BYTES_MAX: u64 = 4096;
/// Most files of the folder that are looked at.
const FILES_MAX: usize = 65_536;

/// Why the sampler is not turned on, or off. Nothing was written, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The process is gone.
    #[error("process {pid} ended or replaced its program")]
    Gone {
        /// Its id.
        pid: u32,
    },
    /// The variable is not known.
    #[error(transparent)]
    Unknown(#[from] GlobalMissing),
    /// It is known from too little.
    #[error("runtime.MemProfileRate is not known surely enough to write to it (known by: {found_by})")]
    Unsure {
        /// From what.
        found_by: FoundBy,
    },
    /// It does not lie where variables do.
    #[error("runtime.MemProfileRate would be at {at}, which is not in the program's writable data")]
    NotData {
        /// Where.
        at: Avma,
    },
    /// The sampler is on.
    #[error("the sampler of process {pid} is on already (MemProfileRate is {rate_bytes}): nothing to adopt")]
    AlreadyOn {
        /// The process.
        pid: u32,
        /// As found.
        rate_bytes: i64,
    },
    /// A leakline that was killed left it on.
    #[error(
        "the sampler of process {pid} was turned on by a leakline that was killed: `leakline restore --pid {pid}` turns \
         it off"
    )]
    LeftOn {
        /// The process.
        pid: u32,
    },
    /// Another leakline has turned it on.
    #[error("another leakline that is running has adopted the sampler of process {pid}, and turns it off when it ends")]
    Held {
        /// The process.
        pid: u32,
    },
    /// The kernel does not allow it.
    #[error("not allowed to write to the memory of process {pid}: needs CAP_SYS_PTRACE, and Yama may forbid it")]
    NotAllowed {
        /// The process.
        pid: u32,
    },
    /// The folder of notes cannot be trusted.
    #[error("{folder} must be a folder of this user that nobody else can write to (--state-dir names another one)")]
    Folder {
        /// Which one.
        folder: PathBuf,
    },
    /// What stands in the note is not about this variable.
    #[error("{file} says that {noted} was written to, but runtime.MemProfileRate is at {at}: nothing was changed")]
    Elsewhere {
        /// The note.
        file: PathBuf,
        /// What it says.
        noted: Avma,
        /// Where the variable is.
        at: Avma,
    },
    /// A note that cannot be read.
    #[error("{file} cannot be understood: it was not written by leakline, or only in part; remove it by hand")]
    Note {
        /// Which one.
        file: PathBuf,
    },
    /// Anything else.
    #[error("{doing}")]
    System {
        /// What was tried.
        doing: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl AdoptError {
    /// Stable identifier of the refusal that this is.
    pub const fn id(&self) -> &'static str {
        match self {
            Self::Gone { .. } => "process_gone",
            Self::Unknown(_) => "global_missing",
            Self::Unsure { .. } => "sampler_unsure",
            Self::NotData { .. } => "sampler_not_data",
            Self::AlreadyOn { .. } => "sampler_on",
            Self::LeftOn { .. } => "sampler_left_on",
            Self::Held { .. } => "sampler_held",
            Self::NotAllowed { .. } => "memory_not_allowed",
            Self::Folder { .. } | Self::Note { .. } | Self::Elsewhere { .. } => "sampler_state",
            Self::System { .. } => "sampler_failed",
        }
    }
}

fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> AdoptError {
    let doing = doing.into();
    move |source| AdoptError::System { doing, source }
}

/// What became of a sampler that was turned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It is off again.
    Off,
    /// It was off already.
    WasOff,
    /// The process is gone, and with it what was written.
    Gone,
    /// Somebody has set another rate since; it was left alone.
    NotOurs {
        /// As found.
        rate_bytes: i64,
    },
}

/// What is noted before anything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    pid: u32,
    start_ticks: u64,
    start_stack: u64,
    exe_device: u64,
    exe_inode: u64,
    /// Where `runtime.MemProfileRate` is.
    address: u64,
    /// What was written; before it was 0.
    rate_bytes: i64,
}

impl Note {
    fn identity(self) -> ProcessIdentity {
        ProcessIdentity {
            pid: self.pid,
            start_ticks: self.start_ticks,
            start_stack: self.start_stack,
            exe_device: self.exe_device,
            exe_inode: self.exe_inode,
        }
    }
}

/// The variable in the memory of one process.
#[derive(Debug)]
struct Variable {
    memory: File,
    pid: u32,
    at: Avma,
}

impl Variable {
    /// Opens the memory. What is opened is that of the program that `identity` says.
    fn open(identity: &ProcessIdentity, at: Avma) -> Result<Self, AdoptError> {
        let pid = identity.pid;
        let opened = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"));
        let memory = opened.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => AdoptError::NotAllowed { pid },
            io::ErrorKind::NotFound => AdoptError::Gone { pid },
            _ => AdoptError::System { doing: format!("cannot open the memory of process {pid}"), source },
        })?;
        // Behind the opening: had it been replaced before, this would tell.
        if presence(identity) != Presence::Running {
            return Err(AdoptError::Gone { pid });
        }
        Ok(Self { memory, pid, at })
    }

    /// `None`: the memory is no more.
    fn read(&self) -> Result<Option<i64>, AdoptError> {
        let mut bytes = [0; 8];
        match self.memory.read_exact_at(&mut bytes, self.at.0) {
            Ok(()) => Ok(Some(i64::from_le_bytes(bytes))),
            // What is left of the memory of a process that has ended has no bytes.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(source) => {
                Err(AdoptError::System { doing: format!("cannot read the memory of process {}", self.pid), source })
            }
        }
    }

    /// False: the memory is no more.
    fn write(&self, value: i64) -> Result<bool, AdoptError> {
        match self.memory.write_all_at(&value.to_le_bytes(), self.at.0) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WriteZero => Ok(false),
            Err(source) => {
                Err(AdoptError::System { doing: format!("cannot write to the memory of process {}", self.pid), source })
            }
        }
    }

    /// Writes 0 where `ours` stands.
    fn restore(&self, ours: i64) -> Result<Restored, AdoptError> {
        match self.read()? {
            None => Ok(Restored::Gone),
            Some(0) => Ok(Restored::WasOff),
            Some(value) if value == ours => Ok(if self.write(0)? { Restored::Off } else { Restored::Gone }),
            Some(rate_bytes) => Ok(Restored::NotOurs { rate_bytes }),
        }
    }
}

/// Where the variable is in the process, if that is sure.
fn sure_place(facts: &BinaryFacts, bias: LoadBias) -> Result<Avma, AdoptError> {
    let found = facts.globals.get(Global::MemProfileRate)?;
    match found.found_by {
        FoundBy::SymbolTable | FoundBy::Dwarf => {}
        FoundBy::Code { functions } if functions >= 2 => {}
        found_by => return Err(AdoptError::Unsure { found_by }),
    }
    let at = found.address.in_process(bias);
    let in_data = facts.segments.iter().any(|segment| {
        let end = segment.svma.0.saturating_add(segment.memory_size_bytes);
        segment.writable && segment.svma.0 <= found.address.0 && found.address.0.saturating_add(8) <= end
    });
    if in_data && at.0 % 8 == 0 { Ok(at) } else { Err(AdoptError::NotData { at }) }
}

/// The kernel lets us write to memory that the program itself cannot: so we ask.
fn is_writable(pid: u32, at: Avma) -> bool {
    let maps = i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()?.maps().ok());
    maps.into_iter().flatten().any(|map| {
        let (start, end) = map.address;
        let wanted = MMPermissions::READ | MMPermissions::WRITE | MMPermissions::PRIVATE;
        start <= at.0 && at.0 + 8 <= end && map.perms.contains(wanted) && !map.perms.contains(MMPermissions::EXECUTE)
    })
}

/// A sampler that we have turned on. It is turned off when this value goes away, also by a panic.
#[derive(Debug)]
pub struct Adopted {
    variable: Variable,
    note: NoteFile,
    is_restored: bool,
}

impl Adopted {
    /// Turns on the sampler of a process: notes what is about to be written, then writes it.
    ///
    /// # Errors
    /// Where it is on, where it is not certain where to write, or where that is not allowed. Nothing was written then.
    pub fn on(
        identity: &ProcessIdentity,
        facts: &BinaryFacts,
        bias: LoadBias,
        folder: &Path,
    ) -> Result<Self, AdoptError> {
        let pid = identity.pid;
        let at = sure_place(facts, bias)?;
        let variable = Variable::open(identity, at)?;
        if !is_writable(pid, at) {
            return Err(AdoptError::NotData { at });
        }
        let mut note = NoteFile::claim(folder, identity)?;
        match variable.read()? {
            Some(0) => {}
            None => {
                // It says nothing, or what was written to memory that is no more.
                note.remove()?;
                return Err(AdoptError::Gone { pid });
            }
            Some(rate_bytes) => {
                let left_on =
                    note.read().is_some_and(|note| note.identity() == *identity && note.rate_bytes == rate_bytes);
                if left_on {
                    return Err(AdoptError::LeftOn { pid });
                }
                note.remove()?;
                return Err(AdoptError::AlreadyOn { pid, rate_bytes });
            }
        }
        note.write(Note {
            pid,
            start_ticks: identity.start_ticks,
            start_stack: identity.start_stack,
            exe_device: identity.exe_device,
            exe_inode: identity.exe_inode,
            address: at.0,
            rate_bytes: RATE_BYTES,
        })?;
        // From here on it is undone when this goes away.
        let adopted = Self { variable, note, is_restored: false };
        if adopted.variable.write(RATE_BYTES)? && adopted.variable.read()? == Some(RATE_BYTES) {
            return Ok(adopted);
        }
        Err(AdoptError::Gone { pid })
    }

    /// Mean bytes between two samples.
    pub fn rate_bytes(&self) -> i64 {
        RATE_BYTES
    }

    /// Turns it off and removes the note.
    ///
    /// # Errors
    /// Where that cannot be done; the note stays for `leakline restore`.
    pub fn restore(mut self) -> Result<Restored, AdoptError> {
        self.undo()
    }

    fn undo(&mut self) -> Result<Restored, AdoptError> {
        let restored = self.variable.restore(RATE_BYTES)?;
        self.is_restored = true;
        self.note.remove()?;
        Ok(restored)
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        if self.is_restored {
            return;
        }
        let pid = self.variable.pid;
        match self.undo() {
            Ok(restored) => tracing::debug!(pid, ?restored, "the sampler is given back"),
            Err(error) => tracing::error!(
                pid,
                error = %error,
                "the sampler could not be turned off: `leakline restore --pid {pid}` tries again"
            ),
        }
    }
}

/// The file of a note, locked while its owner lives.
#[derive(Debug)]
struct NoteFile {
    path: PathBuf,
    file: File,
}

impl NoteFile {
    /// Makes the file, or takes over one that nobody holds.
    fn claim(folder: &Path, identity: &ProcessIdentity) -> Result<Self, AdoptError> {
        prepare(folder)?;
        let path = folder.join(file_name(identity.pid, identity.start_ticks));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&path);
        let file = file.map_err(failed(format!("cannot note in {} what is written", path.display())))?;
        Self { path, file }.locked(identity.pid)
    }

    fn locked(self, pid: u32) -> Result<Self, AdoptError> {
        match self.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(AdoptError::Held { pid }),
            Err(TryLockError::Error(source)) => {
                return Err(failed(format!("cannot lock {}", self.path.display()))(source));
            }
        }
        // Its last owner may have removed it between our opening and our lock.
        let same = |a: fs::Metadata, b: fs::Metadata| a.ino() == b.ino() && a.dev() == b.dev();
        let (ours, there) = (self.file.metadata(), fs::symlink_metadata(&self.path));
        match ours.and_then(|ours| there.map(|there| same(ours, there))) {
            Ok(true) => Ok(self),
            Ok(false) | Err(_) => Err(AdoptError::Held { pid }),
        }
    }

    /// `None`: nothing that can be understood.
    fn read(&mut self) -> Option<Note> {
        let mut text = String::new();
        self.file.rewind().ok()?;
        (&self.file).take(NOTE_BYTES_MAX).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn write(&mut self, note: Note) -> Result<(), AdoptError> {
        let text = serde_json::to_string(&note).unwrap_or_default();
        let written = self
            .file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .and_then(|()| self.file.sync_all());
        written.map_err(failed(format!("cannot note in {} what is written", self.path.display())))
    }

    fn remove(&self) -> Result<(), AdoptError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(format!("cannot remove {}", self.path.display()))(error))
            }
            _ => Ok(()),
        }
    }
}

fn file_name(pid: u32, start_ticks: u64) -> String {
    format!("adopted-{pid}-{start_ticks}")
}

/// Makes the folder where it is missing, and makes sure that what lies in it is ours: we write where a note says.
fn prepare(folder: &Path) -> Result<(), AdoptError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed(format!("cannot make {} (--state-dir names another folder)", folder.display()))(error));
        }
        _ => {}
    }
    if is_ours(folder) { Ok(()) } else { Err(AdoptError::Folder { folder: folder.to_owned() }) }
}

fn is_ours(folder: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let writable_by_others = 0o022;
    fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == own && found.mode() & writable_by_others == 0)
}

/// What a leakline that was killed has left on.
#[derive(Debug)]
pub struct Leftovers {
    file: NoteFile,
    note: Note,
}

impl Leftovers {
    /// The notes about processes with this id, current or past; usually one.
    ///
    /// # Errors
    /// Where the folder cannot be trusted or read, or where a running leakline holds one of them.
    pub fn of(pid: u32, folder: &Path) -> Result<Vec<Self>, AdoptError> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(format!("cannot read {}", folder.display()))(error)),
        };
        if !is_ours(folder) {
            return Err(AdoptError::Folder { folder: folder.to_owned() });
        }
        let mut found = Vec::new();
        for entry in entries.take(FILES_MAX).flatten() {
            let name = entry.file_name();
            let ticks = name.to_str().and_then(|name| name.strip_prefix(&format!("adopted-{pid}-"))?.parse().ok());
            let Some(start_ticks) = ticks else { continue };
            let path = folder.join(file_name(pid, start_ticks));
            let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(&path);
            let file = file.map_err(failed(format!("cannot open {}", path.display())))?;
            let mut file = NoteFile { path, file }.locked(pid)?;
            match file.read() {
                Some(note) if (note.pid, note.start_ticks) == (pid, start_ticks) => found.push(Self { file, note }),
                // It was about to be written, and with it nothing else.
                None if file.file.metadata().is_ok_and(|metadata| metadata.len() == 0) => file.remove()?,
                _ => return Err(AdoptError::Note { file: file.path }),
            }
        }
        Ok(found)
    }

    /// Whether the process that it is about is still there.
    pub fn is_current(&self) -> bool {
        presence(&self.note.identity()) == Presence::Running
    }

    /// The process that it is about is gone: there is nothing to undo.
    ///
    /// # Errors
    /// Where the note cannot be removed.
    pub fn forget(self) -> Result<(), AdoptError> {
        self.file.remove()
    }

    /// Turns the sampler off, if what stands there is what we wrote, and removes the note. The note alone is not believed:
    /// the place must be the one that the binary says.
    ///
    /// # Errors
    /// Where that cannot be done; the note stays.
    pub fn restore(self, facts: &BinaryFacts, bias: LoadBias) -> Result<Restored, AdoptError> {
        let (at, noted) = (sure_place(facts, bias)?, Avma(self.note.address));
        if at != noted {
            return Err(AdoptError::Elsewhere { file: self.file.path, noted, at });
        }
        let restored = Variable::open(&self.note.identity(), at)?.restore(self.note.rate_bytes)?;
        self.file.remove()?;
        Ok(restored)
    }
}
