//! The calls of `bpf(2)` and `perf_event_open(2)` for which aya 0.14 has no function: it loads no program for `uprobe_multi`
//! and makes no such link.
//!
//! The one file of the daemon with `unsafe`. It decides nothing: errors are the kernel's own, descriptors are closed by
//! whoever holds them. What the structures mean is said in the kernel's `include/uapi/linux/bpf.h` and `perf_event.h`.

use std::{
    ffi::{CStr, c_char, c_long},
    io, mem,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya::Pod;
use aya_obj::{
    EbpfSectionKind, Function, Program,
    generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type, perf_event_attr},
};

/// Verifier log in words, without the numbers (`BPF_LOG_LEVEL1`).
const LOG_LEVEL: u32 = 1;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: c_long = 8;
/// Any CPU, in `perf_event_open`.
const ANY_CPU: c_long = -1;
/// No group of events, in `perf_event_open`.
const NO_GROUP: c_long = -1;
/// `PERF_EVENT_IOC_SET_BPF`, `PERF_EVENT_IOC_ENABLE`.
const SET_PROGRAM: libc::c_ulong = 0x4004_2408;
const ENABLE: libc::c_ulong = 0x2400;

/// An instruction of a file at which a link has a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPoint {
    /// File offset of the instruction, bytes.
    pub file_offset: u64,
    /// What the program gets from `bpf_get_attach_cookie` there.
    pub cookie: u64,
}

/// Loads a program of type "kprobe" (uprobes are of it, too), to be attached in this way. What the verifier says is
/// written to `log`, from its start, ended by a zero byte; an empty one asks for nothing.
///
/// # Errors
/// The kernel's; `ENOSPC` where the log is too small.
pub(super) fn load_program(
    name: &str,
    program: &Program,
    function: &Function,
    btf: Option<BorrowedFd<'_>>,
    attach_type: Option<bpf_attach_type>,
    kernel_version: u32,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let functions = function.func_info.func_info_bytes();
    let lines = function.line_info.line_info_bytes();
    let mut attributes = zeroed();
    // SAFETY: every bit pattern is a value of this union's members, which are integers, and it is all zeroes.
    let load = unsafe { &mut attributes.__bindgen_anon_3 };
    set_name(&mut load.prog_name, name);
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
    load.expected_attach_type = attach_type.map_or(0, |kind| kind as u32);
    load.insns = address(&function.instructions);
    load.insn_cnt = count(&function.instructions)?;
    load.license = program.license.as_ptr().addr() as u64;
    load.kern_version = kernel_version;
    if let Some(btf) = btf {
        load.prog_btf_fd = number(btf);
        if function.func_info_rec_size > 0 {
            load.func_info = address(&functions);
            load.func_info_cnt = count(&function.func_info.func_info)?;
            load.func_info_rec_size = u32::try_from(function.func_info_rec_size).map_err(io::Error::other)?;
        }
        if function.line_info_rec_size > 0 {
            load.line_info = address(&lines);
            load.line_info_cnt = count(&function.line_info.line_info)?;
            load.line_info_rec_size = u32::try_from(function.line_info_rec_size).map_err(io::Error::other)?;
        }
    }
    if !log.is_empty() {
        load.log_level = LOG_LEVEL;
        load.log_buf = log.as_mut_ptr().addr() as u64;
        load.log_size = count(log)?;
    }
    // SAFETY: what the pointers lead to, with the lengths beside them, lives until the call returns; the kernel writes only
    // to `log`, at most its length.
    unsafe { descriptor(bpf_cmd::BPF_PROG_LOAD, &mut attributes) }
}

/// Loads type information.
pub(super) fn load_btf(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut attributes = zeroed();
    // SAFETY: as in `load_program`.
    let load = unsafe { &mut attributes.__bindgen_anon_7 };
    load.btf = address(bytes);
    load.btf_size = count(bytes)?;
    // SAFETY: the bytes live until the call returns; the kernel only reads them.
    unsafe { descriptor(bpf_cmd::BPF_BTF_LOAD, &mut attributes) }
}

/// Writes what a section of the object holds to the one entry of the map that stands for it, and lets nobody change it
/// where it is constant: only then does the verifier follow its values.
pub(super) fn fill_section(map: BorrowedFd<'_>, definition: &aya_obj::Map) -> io::Result<()> {
    let data = definition.data();
    if data.is_empty() {
        return Ok(());
    }
    if count(data)? != definition.value_size() {
        return Err(io::Error::other("a section is not as long as its map's value"));
    }
    let key = 0_u32;
    let mut attributes = zeroed();
    // SAFETY: as in `load_program`.
    let element = unsafe { &mut attributes.__bindgen_anon_2 };
    element.map_fd = number(map);
    element.key = (&raw const key).addr() as u64;
    element.__bindgen_anon_1.value = address(data);
    // SAFETY: the map was made of this definition: its keys have four bytes, its values as many as `data` has, as compared above.
    unsafe { system_call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attributes) }?;
    if definition.section_kind() == EbpfSectionKind::Rodata {
        let mut attributes = zeroed();
        attributes.__bindgen_anon_2.map_fd = number(map);
        // SAFETY: no pointers.
        unsafe { system_call(bpf_cmd::BPF_MAP_FREEZE, &mut attributes) }?;
    }
    Ok(())
}

/// Puts probes at all points at once, for one process. They are gone when the last descriptor of the link is.
///
/// # Errors
/// The kernel's: `ESRCH` no such process; `ENOENT` no such file; `EINVAL` where the kernel knows no such links (before 6.6),
/// or a point lies beyond the file; `EINTR` for a task that was killed.
pub(super) fn link_uprobe_multi(
    program: BorrowedFd<'_>,
    path: &CStr,
    points: &[LinkPoint],
    pid: u32,
) -> io::Result<OwnedFd> {
    let offsets: Vec<u64> = points.iter().map(|point| point.file_offset).collect();
    let cookies: Vec<u64> = points.iter().map(|point| point.cookie).collect();
    let mut attributes = zeroed();
    // SAFETY: as in `load_program`.
    let link = unsafe { &mut attributes.link_create };
    link.__bindgen_anon_1.prog_fd = number(program);
    link.attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
    // SAFETY: as in `load_program`.
    let multi = unsafe { &mut link.__bindgen_anon_3.uprobe_multi };
    multi.path = path.as_ptr().addr() as u64;
    multi.offsets = address(&offsets);
    multi.cookies = address(&cookies);
    multi.cnt = count(points)?;
    multi.pid = pid;
    // SAFETY: path and arrays live until the call returns, and each array has `cnt` elements; the kernel only reads them.
    unsafe { descriptor(bpf_cmd::BPF_LINK_CREATE, &mut attributes) }
}

/// Opens a perf event that puts one uprobe into one process. `kind` is the number of the event source "uprobe".
pub(super) fn open_uprobe_event(kind: u32, path: &CStr, file_offset: u64, pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: all zeroes is a value of the structure, which consists of integers.
    let mut attributes: perf_event_attr = unsafe { mem::zeroed() };
    attributes.type_ = kind;
    attributes.size = u32::try_from(size_of::<perf_event_attr>()).map_err(io::Error::other)?;
    attributes.__bindgen_anon_3.config1 = path.as_ptr().addr() as u64;
    attributes.__bindgen_anon_4.config2 = file_offset;
    let pid = c_long::from(pid);
    // SAFETY: the structure says its size and lives, as the path does, until the call returns.
    let result = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attributes, pid, ANY_CPU, NO_GROUP, CLOSE_ON_EXEC)
    };
    // SAFETY: the call gives a new descriptor.
    unsafe { new_descriptor(result) }
}

/// Runs a program at each hit of a perf event, for as long as the descriptor given back lives; it keeps the event, too. Linux 5.15.
pub(super) fn link_perf_event(program: BorrowedFd<'_>, event: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attributes = zeroed();
    // SAFETY: as in `load_program`.
    let link = unsafe { &mut attributes.link_create };
    link.__bindgen_anon_1.prog_fd = number(program);
    link.__bindgen_anon_2.target_fd = number(event);
    link.attach_type = bpf_attach_type::BPF_PERF_EVENT as u32;
    // SAFETY: no pointers.
    unsafe { descriptor(bpf_cmd::BPF_LINK_CREATE, &mut attributes) }
}

/// As [`link_perf_event`], on every kernel: for as long as the event lives.
pub(super) fn set_program(program: BorrowedFd<'_>, event: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the argument is a descriptor's number.
    let set = unsafe { libc::ioctl(event.as_raw_fd(), SET_PROGRAM, program.as_raw_fd()) };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the argument is not looked at.
    let enabled = unsafe { libc::ioctl(event.as_raw_fd(), ENABLE, 0) };
    if enabled < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// From now on this process runs before all others that are not of the real-time class, as soon as it can. For a process that works for
/// microseconds at a time, while breakpoints of its own cost others theirs.
pub(super) fn run_first() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the structure lives through the call, which only reads it.
    let set =
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The bytes of a value, as the kernel programs will see it.
pub fn bytes_of<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: `Pod` says that the value can be seen as bytes: it has no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

fn zeroed() -> bpf_attr {
    // SAFETY: all zeroes is a value of each member: they consist of integers. The kernel wants the rest to be zero.
    unsafe { mem::zeroed() }
}

fn set_name(place: &mut [c_char; 16], name: &str) {
    // The last byte stays zero.
    for (to, from) in place.iter_mut().take(15).zip(name.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
}

fn address<T>(slice: &[T]) -> u64 {
    slice.as_ptr().addr() as u64
}

fn count<T>(slice: &[T]) -> io::Result<u32> {
    u32::try_from(slice.len()).map_err(io::Error::other)
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_fd().as_raw_fd().cast_unsigned()
}

/// A `bpf(2)` command that gives a descriptor.
///
/// # Safety
/// As [`system_call`]; the command must be one that gives a new descriptor.
unsafe fn descriptor(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    unsafe { new_descriptor(system_call(command, attributes)?) }
}

/// `bpf(2)`.
///
/// # Safety
/// Pointers in the attributes must lead to memory that the command may read, or write where it does, with the lengths beside them.
unsafe fn system_call(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<c_long> {
    let size = size_of::<bpf_attr>();
    // SAFETY: the structure lives until the call returns and has this size; for what it points to, the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as c_long, &raw mut *attributes, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes hold of a descriptor that a system call gave, or of its error.
///
/// # Safety
/// `result` must be what a system call gave that makes a new descriptor, right now: nobody else holds it.
unsafe fn new_descriptor(result: c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let number = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
