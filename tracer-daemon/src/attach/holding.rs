//! The process that holds probes: leakline starts itself once more for this, as `leakline hold-probes`.
//!
//! It makes one link of all points, or a perf event for each, keeps them for one window or for as long as heartbeats come, and exits; nothing else closes
//! them. A process that lives and closes it by a system call could be killed meanwhile and leave breakpoints behind, one
//! that exits cannot (decision 0013). Whatever happens to the leakline that gave the order, the target is left alone
//! in time: a window ends by the clock, and the end of the socket ends everything.
//!
//! Its counterpart is `holder.rs`. Little may happen here before the order comes: the time and memory of this process are
//! spent once for each window.

use std::{
    ffi::{CStr, CString},
    io::{self, IoSliceMut},
    mem::{ManuallyDrop, MaybeUninit},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
};

use aya::maps::{Array, Map, MapData, MapError, PerCpuArray};
use nix::sys::signal::SigSet;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recv, recvmsg, send},
    process::setsid,
    time::{ClockId, clock_gettime},
};
use thiserror::Error;
use tracer_common::bursts::WindowState;

use super::{
    LinkPoint, Mechanism, bpf, io_cause,
    messages::{DESCRIPTORS_MAX, Descriptors, End, Order, PACKET_MAX, Said, Step, Word},
    perf_event,
};

/// The argument that makes leakline a holder.
pub const COMMAND: &str = "hold-probes";

/// How often hits are compared with their cap, ns.
const LOOK_EVERY_NS: u64 = 1_000_000;
/// Of the page cache.
const PAGE_BYTES: u64 = 4096;

/// Why it cannot even begin.
#[derive(Debug, Error)]
pub enum HoldError {
    /// Somebody else than leakline started it.
    #[error("`leakline {COMMAND}` is started by leakline itself: its standard input is no socket that gives orders")]
    NoOrders {
        /// What the kernel said.
        source: io::Error,
    },
}

/// Takes an order from standard input, makes the link and waits for its end. The caller is to exit then without more ado:
/// that closes the link.
pub fn hold() -> Result<(), HoldError> {
    // A signal that would end this process ends system calls too early that put breakpoints in place or take them away.
    // SIGKILL alone cannot be kept out.
    let blocked = SigSet::all().thread_block();
    // On a busy host it would else be late to close its window, while the target pays for each hit. Without it, or without that
    // privilege, the cap and the clock in the kernel still bound what is recorded.
    let _first = bpf::run_first();
    // Who runs out of memory is not to look for it here: this process has little, and not for long. Takes CAP_SYS_RESOURCE.
    let _killable = std::fs::write("/proc/self/oom_score_adj", "-1000");
    // Ctrl-C is for leakline alone, which then ends this process.
    let alone = setsid();
    let stdin = io::stdin();
    let socket = stdin.as_fd();
    let Some((packet, descriptors)) = receive(socket).map_err(|source| HoldError::NoOrders { source })? else {
        return Ok(());
    };
    let said = match Order::decode(&packet) {
        _ if blocked.is_err() || alone.is_err() => Err(failed(Step::Order, None)),
        None => Err(failed(Step::Order, None)),
        Some(order) => match order.descriptors(descriptors) {
            None => Err(failed(Step::Order, None)),
            Some(descriptors) => hold_link(socket, &order, descriptors),
        },
    };
    match said {
        Ok(closed) => say(socket, closed),
        Err(failed) => say(socket, failed),
    }
    Ok(())
}

fn hold_link(socket: BorrowedFd<'_>, order: &Order, descriptors: Descriptors) -> Result<Said, Said> {
    let totals = descriptors.totals.zip(order.hits_index).map(|(map, index)| Totals::new(map, index)).transpose()?;
    let births_index = match order.end {
        End::Window { most, .. } => most.cost.map(|cost| cost.births_index),
        End::Silence { .. } => None,
    };
    let mut window = descriptors.window.map(Window::new).transpose()?;
    let exe = std::fs::File::from(descriptors.exe);
    touch(&exe, &order.points);
    let hits_before = totals.as_ref().map(Totals::hits).transpose()?;
    let births = || totals.as_ref().zip(births_index).map_or(Ok(0), |(totals, index)| totals.count(index));
    let births_before = births()?;
    let path =
        CString::new(format!("/proc/self/fd/{}", exe.as_raw_fd())).map_err(|_zero_byte| failed(Step::Order, None))?;
    attach(order, &descriptors.programs, &path).map_err(|error| failed(Step::Link, error.raw_os_error()))?;

    let opened_ns = now_ns();
    let hits = || -> Result<Option<u64>, Said> {
        let (Some(totals), Some(before)) = (&totals, hits_before) else { return Ok(None) };
        Ok(Some(totals.hits()?.saturating_sub(before)))
    };
    match order.end {
        End::Window { length_ns, most, state } => {
            let until_ns = opened_ns.saturating_add(length_ns);
            let window = window.as_mut().ok_or_else(|| failed(Step::Order, None))?;
            window.write(WindowState { until_ns, ..state })?;
            say(socket, Said::Opened { at_ns: opened_ns });
            let ended = wait_for_window(socket, until_ns, || {
                let births = births()?.saturating_sub(births_before);
                Ok(hits()?.is_some_and(|hits| most.is_reached(hits, births)))
            });
            // Also where the totals could not be read.
            window.write(WindowState::default())?;
            ended?;
        }
        End::Silence { at_most_ns } => {
            say(socket, Said::Opened { at_ns: opened_ns });
            while matches!(next_word(socket, at_most_ns), Some(Word::Heartbeat)) {}
        }
    }
    Ok(Said::Closed { at_ns: now_ns(), hits: hits()? })
}

/// Puts probes at all points. Whatever was opened, also where not all could be, is closed by the exit of this process, never by a system call.
fn attach(order: &Order, programs: &[OwnedFd], path: &CStr) -> io::Result<()> {
    let missing = || io::Error::from_raw_os_error(libc::EBADF);
    match order.mechanism {
        Mechanism::UprobeMulti => {
            let program = programs.first().ok_or_else(missing)?.as_fd();
            let _link = ManuallyDrop::new(bpf::link_uprobe_multi(program, path, &order.points, order.pid)?);
        }
        Mechanism::PerfEvents => {
            let source = perf_event::source()?;
            // What an exit closes it closes in the order of the numbers, the highest first: the kernel (fs/file_table.c, kernel/task_work.c) puts
            // each file on a list at its head. So the point that was opened last, the one with the most hits, goes first.
            for point in &order.points {
                let program = usize::try_from(point.cookie).ok().and_then(|index| programs.get(index));
                let program = program.ok_or_else(missing)?.as_fd();
                let event = bpf::open_uprobe_event(source, path, point.file_offset, order.pid)?;
                let event = ManuallyDrop::new(event);
                bpf::set_program(program, event.as_fd())?;
            }
        }
    }
    Ok(())
}

/// Waits for the end of a window: by the clock, by hits, or because it is called off.
fn wait_for_window(
    socket: BorrowedFd<'_>,
    until_ns: u64,
    mut has_enough: impl FnMut() -> Result<bool, Said>,
) -> Result<(), Said> {
    loop {
        let left = until_ns.saturating_sub(now_ns());
        if left == 0 || has_enough()? {
            return Ok(());
        }
        match heard(socket, left.min(LOOK_EVERY_NS)) {
            Heard::Nothing | Heard::Word(Word::Heartbeat) => {}
            Heard::Word(Word::Close) | Heard::End => return Ok(()),
        }
    }
}

/// What leakline says within a time; None: nothing, or it is gone.
fn next_word(socket: BorrowedFd<'_>, within_ns: u64) -> Option<Word> {
    match heard(socket, within_ns) {
        Heard::Word(word) => Some(word),
        Heard::Nothing | Heard::End => None,
    }
}

enum Heard {
    Nothing,
    Word(Word),
    /// Nobody is left to speak.
    End,
}

fn heard(socket: BorrowedFd<'_>, within_ns: u64) -> Heard {
    let timeout = Timespec {
        tv_sec: i64::try_from(within_ns / 1_000_000_000).unwrap_or(i64::MAX),
        // Below a thousand million.
        tv_nsec: i64::try_from(within_ns % 1_000_000_000).unwrap_or(0),
    };
    match poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&timeout)) {
        Ok(0) | Err(Errno::INTR) => return Heard::Nothing,
        Ok(_) => {}
        Err(_broken) => return Heard::End,
    }
    let mut packet = [0; 64];
    match recv(socket, &mut packet, RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Heard::End,
        Ok((_, bytes)) => Heard::Word(Word::decode(packet.get(..bytes).unwrap_or_default())),
        Err(Errno::AGAIN | Errno::INTR) => Heard::Nothing,
        Err(_broken) => Heard::End,
    }
}

/// The order and what comes with it. None: leakline went away without one.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut packet = vec![0; PACKET_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut packet)];
        match recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            outcome => break outcome?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::other("an order that is too long"));
    }
    packet.truncate(received.bytes);
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            descriptors.extend(came);
        }
    }
    Ok(Some((packet, descriptors)))
}

/// Tells leakline, if it is there and listens: it may be stopped, or gone.
fn say(socket: BorrowedFd<'_>, said: Said) {
    let _unheard = send(socket, &said.encode(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}

/// Reads the pages of the points, so that they are in the page cache: putting a breakpoint into a page that was not made an ext4 kernel warn.
fn touch(exe: &std::fs::File, points: &[LinkPoint]) {
    let mut last = None;
    for page in points.iter().map(|point| point.file_offset / PAGE_BYTES) {
        if last.replace(page) != Some(page) {
            // Whether the page is there the kernel says itself.
            let _unread = exe.read_at(&mut [0], page * PAGE_BYTES);
        }
    }
}

/// Now, on the clock that the kernel programs compare windows with.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

fn failed(step: Step, errno: Option<i32>) -> Said {
    Said::Failed { step, errno: errno.unwrap_or(0) }
}

fn map_failed(step: Step) -> impl Fn(MapError) -> Said {
    move |error| failed(step, io_cause(&error).and_then(io::Error::raw_os_error))
}

/// The per-CPU totals of the kernel programs.
struct Totals {
    counters: PerCpuArray<MapData, u64>,
    index: u32,
}

impl Totals {
    fn new(map: OwnedFd, index: u32) -> Result<Self, Said> {
        let map = MapData::from_fd(map).map_err(map_failed(Step::Totals))?;
        let counters = Map::PerCpuArray(map).try_into().map_err(map_failed(Step::Totals))?;
        Ok(Self { counters, index })
    }

    /// Hits since the programs were loaded.
    fn hits(&self) -> Result<u64, Said> {
        self.count(self.index)
    }

    /// What another counter has counted since.
    fn count(&self, index: u32) -> Result<u64, Said> {
        let counted = self.counters.get(&index, 0).map_err(map_failed(Step::Totals))?;
        Ok(counted.iter().fold(0, |sum: u64, count| sum.saturating_add(*count)))
    }
}

/// The map that says which window is open.
struct Window(Array<MapData, WindowState>);

impl Window {
    fn new(map: OwnedFd) -> Result<Self, Said> {
        let map = MapData::from_fd(map).map_err(map_failed(Step::Window))?;
        Ok(Self(Map::Array(map).try_into().map_err(map_failed(Step::Window))?))
    }

    fn write(&mut self, state: WindowState) -> Result<(), Said> {
        self.0.set(0, state, 0).map_err(map_failed(Step::Window))
    }
}
