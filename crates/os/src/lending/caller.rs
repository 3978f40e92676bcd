//! Looking at the caller of a trapped call: its memory, its descriptors, its sockets.
//!
//! A caller is not trusted: what it passes may be nonsense, and another of its threads may change it meanwhile. So
//! memory is read once, never more than an address can be long, and what was read counts only if the call
//! [is pending](Traps::is_pending) afterwards.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{OwnedFd, RawFd};
use std::os::linux::fs::MetadataExt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::filter::Architecture;
use super::{Call, Trapped, Traps, memory};
use crate::socket::LocalAddr;

/// Longest address that the kernel takes (`sockaddr_storage`).
const ADDRESS_BYTES_MAX: usize = 128;
/// `sockaddr_in`, `sockaddr_in6` without its scope as the kernel takes it too, and `sockaddr_un`.
const V4_BYTES: usize = 16;
const V6_BYTES_MIN: usize = 24;
const UNIX_BYTES_MAX: usize = 110;
/// A pidfd of a thread, since Linux 6.9.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL as u32);
/// Numbers after the last known one that are tried: each costs a system call, and a primary takes a call down before
/// it receives many more.
const UNKNOWN_CALLS_MAX: u64 = 4096;

/// Descriptors of a caller that are looked at for epoll sets, lowest first: a program has those early, and one with a
/// million files open is not to keep its primary busy with each call.
const DESCRIPTORS_MAX: usize = 10_000;

/// What a descriptor of a program is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// It is closed at exec.
    pub close_on_exec: bool,
    /// Its open file does not block.
    pub nonblocking: bool,
}

/// The address that a trapped `bind` names, read once. `InvalidInput` for one that makes no sense, which the kernel may
/// judge; `Unsupported` for a family that is neither IP nor Unix. `EPERM` where the caller may not be looked into,
/// `ESRCH` when it has ended.
pub fn address_of(trapped: &Trapped) -> io::Result<LocalAddr> {
    let Call::Bind { address, length, .. } = trapped.call else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let mut buffer = [0; ADDRESS_BYTES_MAX];
    let Some(bytes) = buffer.get_mut(..length).filter(|bytes| bytes.len() >= size_of::<u16>()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    match memory::read(trapped.thread, address, bytes) {
        Ok(read) if read == length => parse(bytes),
        Ok(_) => Err(io::ErrorKind::InvalidInput.into()),
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Err(io::ErrorKind::InvalidInput.into()),
        Err(error) => Err(error),
    }
}

/// A `sockaddr` as the kernel reads it.
fn parse(bytes: &[u8]) -> io::Result<LocalAddr> {
    let [low, high, rest @ ..] = bytes else { return Err(io::ErrorKind::InvalidInput.into()) };
    let port = || rest.first_chunk().map_or(0, |port| u16::from_be_bytes(*port));
    match i32::from(u16::from_ne_bytes([*low, *high])) {
        libc::AF_INET if bytes.len() >= V4_BYTES => {
            let ip: [u8; 4] = chunk(bytes, 4)?;
            Ok(LocalAddr::Inet(SocketAddrV4::new(Ipv4Addr::from(ip), port()).into()))
        }
        libc::AF_INET6 if bytes.len() >= V6_BYTES_MIN => {
            let (flow, ip): ([u8; 4], [u8; 16]) = (chunk(bytes, 4)?, chunk(bytes, 8)?);
            let scope = chunk(bytes, 24).map_or(0, u32::from_ne_bytes);
            // The standard library passes the flow as it is.
            let flow = u32::from_ne_bytes(flow);
            Ok(LocalAddr::Inet(SocketAddrV6::new(Ipv6Addr::from(ip), port(), flow, scope).into()))
        }
        libc::AF_UNIX if bytes.len() <= UNIX_BYTES_MAX => Ok(unix_name(rest)),
        libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX => Err(io::ErrorKind::InvalidInput.into()),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk);
    chunk.copied().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn unix_name(path: &[u8]) -> LocalAddr {
    match path {
        [] => LocalAddr::Unnamed,
        [0, name @ ..] => LocalAddr::Abstract(name.to_vec()),
        _ => {
            let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
            let name = path.get(..end).unwrap_or_default();
            LocalAddr::Unix(PathBuf::from(OsStr::from_bytes(name)))
        }
    }
}

/// A duplicate of the socket that a trapped call is about: the same open file (`pidfd_getfd`), close-on-exec. `EBADF`
/// when there is none of that number, `EPERM` where the caller may not be looked into, `ESRCH` when it has ended. What
/// comes may be no socket.
pub fn socket_of(trapped: &Trapped) -> io::Result<OwnedFd> {
    let thread = pid(trapped.thread)?;
    let fd = trapped.call.fd();
    if fd < 0 {
        return Err(Errno::BADF.into());
    }
    // The descriptors are the thread's, and the first thread of its process may have ended.
    let pidfd = match pidfd_open(thread, PIDFD_THREAD) {
        Err(Errno::INVAL) => pidfd_open(pid(process_of(trapped.thread)?)?, PidfdFlags::empty()),
        pidfd => pidfd,
    };
    Ok(pidfd_getfd(pidfd?, fd, PidfdGetfdFlags::empty())?)
}

/// The process of a thread.
fn process_of(thread: u32) -> io::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    process.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn pid(number: u32) -> io::Result<Pid> {
    let number = i32::try_from(number).ok().and_then(Pid::from_raw);
    number.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// The caller's descriptor, by `/proc/TID/fdinfo`. `NotFound` when there is none of that number.
pub fn descriptor_of(thread: u32, fd: RawFd) -> io::Result<Descriptor> {
    let text = fs::read_to_string(format!("/proc/{thread}/fdinfo/{fd}"))?;
    let flags =
        text.lines().find_map(|line| i32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    let flags = flags.ok_or(io::ErrorKind::InvalidData)?;
    Ok(Descriptor { close_on_exec: flags & libc::O_CLOEXEC != 0, nonblocking: flags & libc::O_NONBLOCK != 0 })
}

/// Whether the caller has the descriptor in an epoll set: another socket in its place would not be watched. A
/// microsecond or two for each descriptor that it has open, of which the first 10,000 are looked at.
pub fn is_watched(thread: u32, fd: RawFd) -> io::Result<bool> {
    let folder = PathBuf::from(format!("/proc/{thread}"));
    let inode = fs::metadata(folder.join(format!("fd/{fd}")))?.st_ino();
    for entry in fs::read_dir(folder.join("fd"))?.take(DESCRIPTORS_MAX) {
        let entry = entry?;
        // What was closed meanwhile watches nothing.
        let is_epoll =
            fs::read_link(entry.path()).is_ok_and(|target| target == Path::new("anon_inode:[eventpoll]"));
        if !is_epoll {
            continue;
        }
        let set = fs::read_to_string(folder.join("fdinfo").join(entry.file_name())).unwrap_or_default();
        if set.lines().any(|line| is_entry_of(line, fd, inode)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a line about an epoll set is about this descriptor, or about another with the same file.
fn is_entry_of(line: &str, fd: RawFd, inode: u64) -> bool {
    let mut words = line.split_whitespace();
    if words.next() != Some("tfd:") {
        return false;
    }
    let is_number = words.next().and_then(|number| number.parse().ok()) == Some(fd);
    // The number may have been another file's when that was added.
    let same_file = words.find_map(|word| u64::from_str_radix(word.strip_prefix("ino:")?, 16).ok());
    same_file.map_or(is_number, |same_file| same_file == inode)
}

/// The call that was received and not answered by a primary that is gone, where no record of it was kept: it is newer
/// than `last`, the newest that was, and its caller is one of `pids` or a thread of one. `None` when there is none, or
/// when callers cannot be told apart.
///
/// Nothing is found where not one number is known, that is where `last` is 0: the kernel draws the first by chance.
/// Calls that wait and were not received are told apart by receiving them: ask before that, and again after it. Errors
/// are those of `/proc`: `EPERM` where the callers may not be looked into.
pub fn pending_of(traps: &Traps, last: u64, pids: &[u32]) -> io::Result<Option<Trapped>> {
    let newer = (1..=UNKNOWN_CALLS_MAX).map(|step| last.wrapping_add(step));
    let mut waiting = newer.filter(|id| traps.is_pending(*id));
    let (Some(id), None) = (waiting.next(), waiting.next()) else { return Ok(None) };
    let mut callers = Vec::new();
    for pid in pids.iter().collect::<BTreeSet<_>>() {
        callers.extend(callers_in(*pid)?);
    }
    match *callers {
        [(thread, call)] if traps.is_pending(id) => Ok(Some(Trapped { id, thread, call })),
        _ => Ok(None),
    }
}

/// The threads of a process that are in one of our calls, with the call.
fn callers_in(pid: u32) -> io::Result<Vec<(u32, Call)>> {
    let mut callers = Vec::new();
    let threads = match fs::read_dir(format!("/proc/{pid}/task")) {
        Err(error) if is_gone(&error) => return Ok(callers),
        threads => threads?,
    };
    for entry in threads {
        let entry = match entry {
            Err(error) if is_gone(&error) => break,
            entry => entry?,
        };
        let line = match fs::read_to_string(entry.path().join("syscall")) {
            Err(error) if is_gone(&error) => continue,
            line => line?,
        };
        let thread = entry.file_name().to_str().and_then(|name| name.parse().ok());
        callers.extend(thread.zip(call_in(&line)));
    }
    Ok(callers)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// The call in a line of `/proc/PID/syscall`: its number, then its arguments in hexadecimal.
fn call_in(line: &str) -> Option<Call> {
    let (number, rest) = line.split_once(' ')?;
    let mut args = [0; 6];
    for (arg, word) in args.iter_mut().zip(rest.split_whitespace()) {
        *arg = u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()?;
    }
    let (nr, arch) = (number.parse().ok()?, Architecture::OWN.audit);
    Call::of(&libc::seccomp_data { nr, arch, instruction_pointer: 0, args })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(text: &str) -> LocalAddr {
        LocalAddr::Inet(text.parse().unwrap())
    }

    #[test]
    fn addresses_are_read_as_the_kernel_does() {
        let family = |family: i32| (family as u16).to_ne_bytes();
        let v4 = [&family(libc::AF_INET)[..], &[0x1f, 0x90, 127, 0, 0, 1], &[0; 8]].concat();
        assert_eq!(parse(&v4).unwrap(), inet("127.0.0.1:8080"));
        let longer = [&v4[..], &[9; 112]].concat();
        assert_eq!(parse(&longer).unwrap(), inet("127.0.0.1:8080"));
        assert_eq!(parse(&v4[..15]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let ip = Ipv6Addr::LOCALHOST.octets();
        let v6 = [&family(libc::AF_INET6)[..], &[0, 80, 0, 0, 0, 0], &ip, &5_u32.to_ne_bytes()].concat();
        assert_eq!(parse(&v6).unwrap(), inet("[::1%5]:80"));
        assert_eq!(parse(&v6[..24]).unwrap(), inet("[::1]:80"));
        assert_eq!(parse(&v6[..23]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(parse(&family(libc::AF_NETLINK)).unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(parse(&family(libc::AF_UNSPEC)).unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(parse(&[1]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn names_of_unix_sockets() {
        let named = |name: &[u8]| parse(&[&(libc::AF_UNIX as u16).to_ne_bytes()[..], name].concat());
        assert_eq!(named(b"").unwrap(), LocalAddr::Unnamed);
        assert_eq!(named(b"/a/b\0junk").unwrap(), LocalAddr::Unix("/a/b".into()));
        assert_eq!(named(b"rel").unwrap(), LocalAddr::Unix("rel".into()));
        assert_eq!(named(b"\0x\0y").unwrap(), LocalAddr::Abstract(b"x\0y".to_vec()));
        assert_eq!(named(&[b'p'; 108]).unwrap(), LocalAddr::Unix("p".repeat(108).into()));
        assert_eq!(named(&[b'p'; 109]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn an_epoll_set_is_searched_by_file_and_by_number_where_that_is_all() {
        let line = "tfd:        7 events:       19 data:                7  pos:0 ino:2a sdev:8";
        assert!(is_entry_of(line, 7, 42) && is_entry_of(line, 9, 42), "a duplicate is watched too");
        assert!(!is_entry_of(line, 7, 43), "the number was another file's");
        assert!(is_entry_of("tfd:  7 events: 19 data: 7", 7, 1) && !is_entry_of("tfd: 8 events: 1", 7, 1));
        assert!(!is_entry_of("pos:\t0", 7, 42) && !is_entry_of("", 7, 42));
    }

    #[test]
    fn calls_are_found_in_proc() {
        let listen = Architecture::OWN.listen;
        let line = format!("{listen} 0x3 0x80 0x0 0x0 0x0 0x0 0x7ffd 0x7f00\n");
        assert_eq!(call_in(&line), Some(Call::Listen { fd: 3, backlog: 128 }));
        for other in ["running\n", "-1 0x7ffd 0x7f00\n", "0 0x3 0x80 0x0 0x0 0x0 0x0 0x7ffd 0x7f00\n", ""] {
            assert_eq!(call_in(other), None, "{other}");
        }
    }
}
