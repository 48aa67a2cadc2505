//! Links of `uprobe_multi`, or the perf events that stand for one, each held by a process of its own: this side gives the order and hears how it went.
//!
//! Owns those processes until they are gone. Nothing here waits: a [`Holder`] has a descriptor that is readable when there is news. A
//! process that holds nothing yet is kept in reserve, so that starting it does not delay a window.
//! Counterpart: `holding.rs`. Why processes: decision 0013.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv,
        send, sendmsg, socketpair,
    },
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use tracer_common::bursts::WindowState;

use super::{
    AttachError, LinkPoint, Mechanism,
    governor::CaughtCost,
    holding::COMMAND,
    messages::{DESCRIPTORS_MAX, End, Order, POINTS_MAX, Said, Step, Word, programs_max},
    perf_event,
};

/// What a link without an end of its own waits for the next heartbeat, ns.
const SILENCE_MAX_NS: u64 = 1_000_000_000;

/// Processes that are started to take away what a killed one has left.
const REMEDIES_MAX: u32 = 3;

/// The program that runs now, also where its file was replaced.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// A link to be made.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// How the probes are put there.
    pub mechanism: Mechanism,
    /// What is called at the points, loaded for that mechanism: by links of `uprobe_multi` one program, by perf events from 1 to 8. Then a
    /// point's cookie is the index of its program, which gets to know no cookie.
    pub programs: &'a [BorrowedFd<'a>],
    /// The inspected file.
    pub exe: BorrowedFd<'a>,
    /// The process; only its hits count, those of all its threads.
    pub pid: u32,
    /// From 1 to 4096. Where each is an event, rare ones first: the last one is gone first.
    pub points: &'a [LinkPoint],
    /// A per-CPU array of 64-bit counters and the index of the one that counts hits.
    pub hits: Option<(BorrowedFd<'a>, u32)>,
    /// When it ends without being told.
    pub until: Until<'a>,
}

/// When a link ends without being told.
#[derive(Clone, Copy, Debug)]
pub enum Until<'a> {
    /// With a window.
    Window {
        /// The map `WINDOW`: an array of [`WindowState`], of which this is the first.
        map: BorrowedFd<'a>,
        /// What is written there while it is open; `until_ns` is the holder's to say.
        state: WindowState,
        /// How long it lasts, ns.
        length_ns: u64,
        /// It ends earlier where it has caught so much, looked at each ms; needs [`Link::hits`].
        most: Most,
    },
    /// When [`Holder::beat`] was not called for a second.
    HeartbeatsStop,
}

/// How much a window may catch before it ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// Hits.
    pub hits: u64,
    /// What they and the births among them may cost together. `None`: births are not counted.
    pub cost: Option<MostCost>,
}

impl Most {
    /// So many hits, whatever they cost.
    pub const fn hits(hits: u64) -> Self {
        Self { hits, cost: None }
    }

    /// Whether it is reached.
    pub(super) fn is_reached(self, hits: u64, births: u64) -> bool {
        hits >= self.hits || self.cost.is_some_and(|most| most.caught.is_reached(hits, births))
    }
}

/// A bound on what a window costs by what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MostCost {
    /// The index of the counter of births, where hits are counted.
    pub births_index: u32,
    /// What each costs, and all of them at most.
    pub caught: CaughtCost,
}

/// What has happened to a link.
#[derive(Debug)]
pub enum News {
    /// All probes are in place, and hits count (ns of the monotonic clock).
    Opened {
        /// Since when.
        at_ns: u64,
    },
    /// Hits do not count any more. The probes are being taken away: see [`Self::Gone`].
    Closed {
        /// Since when, ns of the monotonic clock.
        at_ns: u64,
        /// Hits from before the link was made until now. None: nobody counted.
        hits: Option<u64>,
    },
    /// The link was not made, or could not be used.
    Failed(AttachError),
    /// The process has ended, and with it the link: the target runs as if nobody had been there. Always the last one.
    Gone,
}

/// Starts processes that hold links.
#[derive(Debug)]
pub struct Holders {
    program: PathBuf,
    spare: Option<Process>,
}

impl Default for Holders {
    fn default() -> Self {
        Self::of_program(Path::new(OWN_PROGRAM))
    }
}

impl Holders {
    /// With this program `leakline` instead of the one that runs.
    pub fn of_program(program: &Path) -> Self {
        Self { program: program.to_owned(), spare: None }
    }

    /// Starts a process in reserve, where there is none. To be called when there is time.
    pub fn prepare(&mut self) -> Result<(), AttachError> {
        if self.spare.as_mut().is_some_and(|spare| spare.end().is_none()) {
            return Ok(());
        }
        self.spare = Some(Process::start(&self.program)?);
        Ok(())
    }

    /// Ends the process in reserve and waits until it is gone, for so long at most: nothing of ours is to be left behind.
    pub fn dismiss(&mut self, at_most: Duration) {
        let Some(spare) = self.spare.take() else { return };
        spare.say(Word::Close);
        let timeout = Timespec {
            tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: at_most.subsec_nanos().into(),
        };
        let mut ended = [PollFd::new(&spare.ended, PollFlags::IN)];
        // Whoever does not end in time is stopped, and holds nothing.
        if !matches!(poll(&mut ended, Some(&timeout)), Ok(1..)) {
            let _gone = pidfd_send_signal(&spare.ended, Signal::KILL);
            let _interrupted = poll(&mut ended, Some(&timeout));
        }
    }

    /// Has a link made. It is not there yet: [`Holder::news`] says when it is.
    pub fn open(&mut self, link: &Link<'_>) -> Result<Holder, AttachError> {
        // It may have been killed while it waited.
        if let Some(spare) = self.spare.take()
            && spare.order(link).is_ok()
        {
            return Holder::new(spare, link, &self.program);
        }
        let process = Process::start(&self.program)?;
        process.order(link)?;
        Holder::new(process, link, &self.program)
    }
}

/// A link, or what becomes one. Dropping it ends the link: the process is told, and another thread waits for its end.
#[derive(Debug)]
pub struct Holder {
    process: Process,
    state: State,
    /// Whether it has said that the probes are in place, or that it could not put them there.
    is_past_opening: bool,
    /// Whether the process is one that takes away what the first one left.
    is_cleaning_up: bool,
    remedy: Remedy,
}

/// What takes away what is left by a process that was killed while it put probes in place: another link at the same points.
#[derive(Debug)]
struct Remedy {
    own_program: PathBuf,
    mechanism: Mechanism,
    programs: Vec<OwnedFd>,
    exe: OwnedFd,
    pid: u32,
    points: Vec<LinkPoint>,
    /// Times that it may be tried: somebody may be killing whatever we start.
    tries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Speaks,
    /// It has closed its end: it exits.
    Silent,
    Gone,
}

impl Holder {
    fn new(process: Process, link: &Link<'_>, own_program: &Path) -> Result<Self, AttachError> {
        let copy = |descriptor: BorrowedFd<'_>| {
            let copied = descriptor.try_clone_to_owned();
            copied.map_err(|source| AttachError::Holder { doing: "keep what is needed to clean up after", source })
        };
        let remedy = Remedy {
            own_program: own_program.to_owned(),
            mechanism: link.mechanism,
            programs: link.programs.iter().copied().map(copy).collect::<Result<_, _>>()?,
            exe: copy(link.exe)?,
            pid: link.pid,
            points: link.points.to_vec(),
            tries: REMEDIES_MAX,
        };
        Ok(Self { process, state: State::Speaks, is_past_opening: false, is_cleaning_up: false, remedy })
    }

    /// Readable when there is news. Another one as soon as news were taken.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match self.state {
            State::Speaks => self.process.socket.as_fd(),
            State::Silent | State::Gone => self.process.ended.as_fd(),
        }
    }

    /// The next thing that has happened, without waiting. None: nothing yet, or all was told.
    pub fn news(&mut self) -> Option<News> {
        if self.state == State::Speaks {
            match self.process.hear() {
                Heard::Nothing => return None,
                Heard::Said(said) => {
                    self.is_past_opening = true;
                    if !self.is_cleaning_up {
                        return Some(self.news_of(said));
                    }
                    return None;
                }
                Heard::End => self.state = State::Silent,
            }
        }
        if self.state == State::Silent
            && let Some(end) = self.process.end()
        {
            if end == Ended::Killed && !self.is_past_opening && self.remedy.tries > 0 {
                self.clean_up();
                return None;
            }
            self.state = State::Gone;
            return Some(News::Gone);
        }
        None
    }

    /// A process that is killed while it puts breakpoints in place may leave some. A link at the same points that ends well takes
    /// them away: it is made and closed before news of the end are told. What it says is nobody's business.
    fn clean_up(&mut self) {
        self.remedy.tries -= 1;
        match self.remedy.begin() {
            Ok(process) => {
                self.process = process;
                self.state = State::Speaks;
                self.is_cleaning_up = true;
            }
            Err(error) => {
                tracing::warn!(pid = self.remedy.pid, %error, "breakpoints may have been left in a process");
                self.remedy.tries = 0;
            }
        }
    }

    /// Keeps a link without an end of its own for another second.
    pub fn beat(&self) {
        self.process.say(Word::Heartbeat);
    }

    /// Tells the process to end the link now. [`News::Closed`] and [`News::Gone`] follow.
    pub fn close(&self) {
        self.process.say(Word::Close);
    }

    /// Ends the process whatever it does. What holds the link is gone then, and with it the link.
    pub fn kill(&self) {
        // One that is gone needs no signal.
        let _gone = pidfd_send_signal(&self.process.ended, Signal::KILL);
    }

    /// As [`Self::kill`], but not while probes are being put in place: then some could be left. True where it was killed.
    pub fn kill_if_open(&self) -> bool {
        if self.is_past_opening {
            self.kill();
        }
        self.is_past_opening
    }

    /// Id of the process that holds the link.
    pub fn process_id(&self) -> u32 {
        self.process.child.id()
    }

    fn news_of(&self, said: Said) -> News {
        match said {
            Said::Opened { at_ns } => News::Opened { at_ns },
            Said::Closed { at_ns, hits } => News::Closed { at_ns, hits },
            Said::Failed { step, errno } => News::Failed(self.failure(step, errno)),
        }
    }

    fn failure(&self, step: Step, errno: i32) -> AttachError {
        let pid = self.remedy.pid;
        let source = io::Error::from_raw_os_error(errno);
        match step {
            Step::Order => {
                AttachError::Holder { doing: "give orders to", source: io::Error::other("it does not understand them") }
            }
            Step::Totals => AttachError::HolderMap { pid, map: "totals", source },
            Step::Window => AttachError::HolderMap { pid, map: "WINDOW", source },
            Step::Link => link_error(source, self.remedy.mechanism, self.remedy.points.len(), pid),
        }
    }
}

impl Remedy {
    /// Starts a process that makes the link and ends it at once.
    fn begin(&self) -> Result<Process, AttachError> {
        let process = Process::start(&self.own_program)?;
        let programs: Vec<BorrowedFd<'_>> = self.programs.iter().map(OwnedFd::as_fd).collect();
        process.order(&Link {
            mechanism: self.mechanism,
            programs: &programs,
            exe: self.exe.as_fd(),
            pid: self.pid,
            points: &self.points,
            hits: None,
            until: Until::HeartbeatsStop,
        })?;
        process.say(Word::Close);
        Ok(process)
    }
}

/// Why the kernel puts no probes there.
pub(super) fn link_error(source: io::Error, mechanism: Mechanism, points: usize, pid: u32) -> AttachError {
    match source.raw_os_error() {
        Some(libc::ESRCH) => AttachError::TargetGone { pid },
        Some(libc::EPERM | libc::EACCES) if mechanism == Mechanism::PerfEvents => perf_event::not_allowed(),
        Some(libc::EPERM | libc::EACCES) => AttachError::NotAllowed {
            doing: "attach probes by one link",
            needs: "CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE",
        },
        _ => AttachError::Link { points, pid, source },
    }
}

/// A process that holds a link, or waits for an order. Told to end when dropped.
#[derive(Debug)]
struct Process {
    socket: OwnedFd,
    child: Child,
    /// A descriptor of the process, readable when it has ended.
    ended: OwnedFd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    ByItself,
    Killed,
}

enum Heard {
    Nothing,
    Said(Said),
    End,
}

impl Process {
    fn start(program: &Path) -> Result<Self, AttachError> {
        let failed = |source: io::Error| AttachError::Holder { doing: "start", source };
        let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| failed(e.into()))?;
        let mut child = Command::new(program)
            .arg0("leakline")
            .arg(COMMAND)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let pid = Pid::from_raw(child.id().cast_signed()).ok_or(Errno::SRCH);
        match pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            Ok(ended) => Ok(Self { socket, child, ended }),
            Err(error) => {
                // Ends it, as it has no order.
                drop(socket);
                child.wait().map_err(failed)?;
                Err(failed(error.into()))
            }
        }
    }

    fn order(&self, link: &Link<'_>) -> Result<(), AttachError> {
        let failed = |source: io::Error| AttachError::Holder { doing: "give orders to", source };
        if !(1..=POINTS_MAX).contains(&link.points.len()) {
            return Err(failed(io::Error::other(format!("{} points for one link", link.points.len()))));
        }
        let programs = link.programs.len();
        if !(1..=programs_max(link.mechanism)).contains(&programs) {
            return Err(failed(io::Error::other(format!("{programs} programs for one link"))));
        }
        let mut descriptors = link.programs.to_vec();
        descriptors.push(link.exe);
        descriptors.extend(link.hits.map(|(totals, _)| totals));
        let end = match link.until {
            Until::Window { map, state, length_ns, most } => {
                descriptors.push(map);
                End::Window { length_ns, most, state }
            }
            Until::HeartbeatsStop => End::Silence { at_most_ns: SILENCE_MAX_NS },
        };
        let hits_index = link.hits.map(|(_, index)| index);
        let order =
            Order { pid: link.pid, mechanism: link.mechanism, programs, points: link.points.to_vec(), hits_index, end };
        let order = order.encode();

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(failed(io::Error::other("too many descriptors")));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(&self.socket, &[IoSlice::new(&order)], &mut ancillary, flags).map_err(|error| failed(error.into()))?;
        Ok(())
    }

    fn say(&self, word: Word) {
        // Where it does not listen any more, news of its end come.
        let _unheard = send(&self.socket, &word.encode(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }

    fn hear(&self) -> Heard {
        let mut packet = [0; 64];
        let mut received = recv(&self.socket, &mut packet, RecvFlags::DONTWAIT);
        if received == Err(Errno::CONNRESET) {
            // It ended without reading all. That is said once and first; behind it comes what it had said before.
            received = recv(&self.socket, &mut packet, RecvFlags::DONTWAIT);
        }
        match received {
            Ok((_, 0)) => Heard::End,
            Ok((_, bytes)) => Said::decode(packet.get(..bytes).unwrap_or_default()).map_or(Heard::Nothing, Heard::Said),
            Err(Errno::AGAIN | Errno::INTR) => Heard::Nothing,
            Err(_broken) => Heard::End,
        }
    }

    /// How it ended. None: it has not. Also takes notice of its end, so that nothing is left of it.
    fn end(&mut self) -> Option<Ended> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) if status.code().is_some() => Some(Ended::ByItself),
            // An error says that somebody else has taken notice: then it is not known how.
            Ok(Some(_)) | Err(_) => Some(Ended::Killed),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.say(Word::Close);
        if self.end().is_some() {
            return;
        }
        // The end of a process that holds a link takes tens of milliseconds. It ends by itself; this only takes notice.
        let Ok(ended) = self.ended.try_clone() else { return };
        let unnoticed = std::thread::Builder::new().name("probes-go".into()).spawn(move || {
            let _ended = rustix::process::waitid(
                rustix::process::WaitId::PidFd(ended.as_fd()),
                rustix::process::WaitIdOptions::EXITED,
            );
        });
        drop(unnoticed);
    }
}
