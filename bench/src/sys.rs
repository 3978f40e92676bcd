//! The system calls that `std` does not offer. Must never keep a descriptor that a child could inherit by accident:
//! everything is born close-on-exec, and a child opens up only the one descriptor it is lent.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static STOP: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM only set the flag that [`stop_requested`] reads.
pub(crate) fn catch_stop_signals() {
    extern "C" fn note_stop(_signal: libc::c_int) {
        STOP.store(true, Ordering::Relaxed);
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: a zeroed sigaction is a valid one (no flags, empty mask), and the handler only stores an atomic.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note_stop as extern "C" fn(libc::c_int) as usize;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

pub(crate) fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// CPU time that a process has used, all its threads together.
#[derive(Clone, Copy, Default)]
pub(crate) struct CpuTime {
    /// Exact, from the scheduler.
    pub(crate) total_ns: u64,
    /// Counted in ticks of the kernel's clock unless the kernel was built for exact accounting.
    pub(crate) user_ticks_ns: u64,
    /// User and system, counted likewise.
    pub(crate) ticks_ns: u64,
}

/// What `/proc/PID/stat` and `getrusage` are made of, read finer: the exact total, and the ticks that divide it.
pub(crate) fn cpu_time(pid: u32) -> io::Result<CpuTime> {
    const TICKS: i32 = 0;
    const USER_TICKS: i32 = 1;
    const EXACT: i32 = 2;
    Ok(CpuTime {
        ticks_ns: process_clock(pid, TICKS)?,
        user_ticks_ns: process_clock(pid, USER_TICKS)?,
        total_ns: process_clock(pid, EXACT)?,
    })
}

/// A process's CPU clock by the kernel's encoding of its id, the one that `clock_getcpuclockid` uses.
fn process_clock(pid: u32, kind: i32) -> io::Result<u64> {
    let clock = (!pid.cast_signed() << 3) | kind;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing; a wrong clock id is an error return.
    check(unsafe { libc::clock_gettime(clock, &mut time) })?;
    Ok(time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned())
}

/// User and system time of this process in microseconds.
pub(crate) fn own_cpu_us() -> (u64, u64) {
    // SAFETY: a zeroed rusage is a valid one, and the call only fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let microseconds =
        |time: libc::timeval| time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_usec.cast_unsigned();
    (microseconds(usage.ru_utime), microseconds(usage.ru_stime))
}

/// A loopback TCP socket that is bound but does not listen; port 0 lets the kernel choose. Others may bind the same
/// port with either of the reuse options, so it also serves to hold a port for a program that is about to start.
pub(crate) fn bound_socket(port: u16) -> io::Result<(OwnedFd, u16)> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked before it is owned.
    let fd = unsafe { OwnedFd::from_raw_fd(check(libc::socket(libc::AF_INET, kind, 0))?) };
    let on: libc::c_int = 1;
    for option in [libc::SO_REUSEADDR, libc::SO_REUSEPORT] {
        set_option(fd.as_raw_fd(), libc::SOL_SOCKET, option, &on)?;
    }
    let mut address = loopback(port);
    let mut length = address_length();
    // SAFETY: `address` is a sockaddr_in of `length` bytes, readable and writable for both calls.
    unsafe {
        let pointer: *mut libc::sockaddr = (&raw mut address).cast();
        check(libc::bind(fd.as_raw_fd(), pointer, length))?;
        check(libc::getsockname(fd.as_raw_fd(), pointer, &mut length))?;
    }
    Ok((fd, u16::from_be(address.sin_port)))
}

pub(crate) fn loopback(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    }
}

pub(crate) fn address_length() -> libc::socklen_t {
    size_of::<libc::sockaddr_in>() as libc::socklen_t
}

pub(crate) fn set_option<T: Copy>(fd: RawFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let value: *const T = value;
    // SAFETY: `value` points to a live T of the size given.
    check(unsafe { libc::setsockopt(fd, level, option, value.cast(), size_of::<T>() as libc::socklen_t) })?;
    Ok(())
}

/// An anonymous file for a child's output: it never blocks the child and needs no cleaning up.
pub(crate) fn memory_file() -> io::Result<File> {
    // SAFETY: the name is a NUL-terminated constant; the result is checked before it is owned.
    unsafe { Ok(File::from_raw_fd(check(libc::memfd_create(c"output".as_ptr(), libc::MFD_CLOEXEC))?)) }
}

/// Standard output without `std`'s buffer and lock: each write is one.
pub(crate) fn unbuffered_stdout() -> ManuallyDrop<File> {
    // SAFETY: descriptor 1 is open, and nobody closes it by this value.
    ManuallyDrop::new(unsafe { File::from_raw_fd(libc::STDOUT_FILENO) })
}

/// Called in a child before exec: dies with the parent, and keeps `lent` open across exec under its own number (no
/// `dup2`, which could land on a descriptor that `std` still needs).
pub(crate) fn prepare_child(parent: u32, lent: Option<RawFd>) -> io::Result<()> {
    // SAFETY: plain calls without pointers, all async-signal-safe.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        if libc::getppid().cast_unsigned() != parent {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Some(fd) = lent {
            check(libc::fcntl(fd, libc::F_SETFD, 0))?;
        }
    }
    Ok(())
}

pub(crate) fn signal_process(pid: u32, signal: i32) {
    // SAFETY: no pointers. The caller has not reaped `pid` yet, so the number is still its child's.
    unsafe { libc::kill(pid.cast_signed(), signal) };
}

pub(crate) fn signal_group(leader: u32, signal: i32) {
    // SAFETY: no pointers. The group is the one that the caller's child was started as leader of.
    unsafe { libc::killpg(leader.cast_signed(), signal) };
}

pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub(crate) fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// How a child ended.
pub(crate) struct Ended {
    /// As `wait` has it: zero for a success.
    pub(crate) status: i32,
    /// User and system time that it has used, and those of its children that it has waited for.
    pub(crate) cpu: Duration,
}

/// Takes the end of a child; `None` when it goes on for longer than `limit`.
pub(crate) fn wait_for(pid: u32, limit: Duration) -> io::Result<Option<Ended>> {
    // SAFETY: no pointers; the result is checked before it is owned. The child is not waited for yet.
    let pidfd = unsafe {
        let fd = check_size(libc::syscall(libc::SYS_pidfd_open, pid, 0) as isize)?;
        OwnedFd::from_raw_fd(fd as RawFd)
    };
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let mut end = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid structure.
        match check(unsafe {
            libc::poll(&mut end, 1, libc::c_int::try_from(left).unwrap_or(libc::c_int::MAX))
        }) {
            Ok(0) => return Ok(None),
            Ok(_) => return take_end(pid).map(Some),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn take_end(pid: u32) -> io::Result<Ended> {
    let mut status = 0;
    // SAFETY: a zeroed rusage is a valid one, and the call only fills it and the status.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        check(libc::wait4(pid.cast_signed(), &mut status, 0, &mut usage))?;
        usage
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec.cast_unsigned(), time.tv_usec as u32 * 1000);
    Ok(Ended { status, cpu: time(usage.ru_utime) + time(usage.ru_stime) })
}
