//! The socket at which programs say by `sd_notify(3)` how they are: datagrams to an address in no file system, each
//! with the number of the process that sent it, vouched for by the kernel.
//!
//! Only receives. What a word means, and whether its sender may be believed, is the reader's to say.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
    SocketType, bind, recvmsg, socket_with, sockopt,
};

/// The longest word that is read; what is longer is cut.
const WORD_BYTES_MAX: usize = 4096;
/// A word may come with descriptors, which are closed: whoever sent them may wait for that.
const FDS_MAX: usize = 253;

/// A datagram socket that programs of this network namespace find by its name.
#[derive(Debug)]
pub struct NotifySocket {
    socket: OwnedFd,
}

/// What a program has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The process that said it.
    pub pid: u32,
    /// Lines of `NAME=value`.
    pub text: String,
}

impl NotifySocket {
    /// Binds the name, without its zero byte, in the abstract namespace. `EADDRINUSE` where somebody has it.
    pub fn bind(name: &str) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        sockopt::set_socket_passcred(&socket, true)?;
        bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
        Ok(Self { socket })
    }

    /// The next word, if there is one. A datagram without a sender is passed over.
    pub fn next(&self) -> io::Result<Option<Word>> {
        let mut bytes = [0; WORD_BYTES_MAX];
        loop {
            let mut space =
                vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(FDS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let message = match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)
            {
                Ok(message) => message,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let mut sender = None;
            for part in control.drain() {
                match part {
                    RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials.pid),
                    RecvAncillaryMessage::ScmRights(fds) => fds.for_each(drop),
                    _ => {}
                }
            }
            let text = bytes.get(..message.bytes).unwrap_or_default();
            if let Some(pid) = sender {
                let text = String::from_utf8_lossy(text).into_owned();
                return Ok(Some(Word { pid: pid.as_raw_pid().unsigned_abs(), text }));
            }
        }
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Word {
    /// Whether it says that the service is ready.
    pub fn is_ready(&self) -> bool {
        self.text.lines().any(|line| line == "READY=1")
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    #[test]
    fn words_come_with_their_senders() {
        let name = format!("oxherd-test/{}", std::process::id());
        let notify = NotifySocket::bind(&name).unwrap();
        assert_eq!(notify.next().unwrap(), None);
        let (sender, to) = (UnixDatagram::unbound().unwrap(), SocketAddr::from_abstract_name(&name).unwrap());
        sender.send_to_addr(b"STATUS=almost\nREADY=1\n", &to).unwrap();
        sender.send_to_addr(b"NOT_READY=1", &to).unwrap();
        let word = notify.next().unwrap().unwrap();
        assert_eq!((word.pid, word.is_ready()), (std::process::id(), true));
        assert!(!notify.next().unwrap().unwrap().is_ready());
        assert!(NotifySocket::bind(&name).is_err(), "it has one owner");
    }
}
