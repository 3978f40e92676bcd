//! Starting a process, the Host's side: prepare, create, hear whether it worked.
//!
//! Must never leave anything behind on failure: neither a process nor a descriptor nor a changed signal mask.

use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::Lending;
use super::child::{Failure, PID_DIGITS_MAX, Plan, Step};
use super::create::{self, Created};
use super::error::SpawnError;
use super::spec::{Identity, Input, LABEL_VARIABLE, LISTEN_PID_VARIABLE, Output, SpawnSpec};
use crate::cgroup::Group;
use crate::lending::install::{self, Installed};
use crate::lending::obstacle;
use crate::{packet, sys};

/// What is asked of the kernel for either end of a channel; it grants what `wmem_max` and `rmem_max` allow.
const CHANNEL_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// Where programs are looked for when the spec's environment has no `PATH`; that of `execvp`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The two ends of a channel as the Host holds them.
#[derive(Debug)]
pub struct ChannelEnds {
    /// The primary's end, nonblocking.
    pub primary: OwnedFd,
    /// A duplicate of the worker's end, to take back what the worker has not read. It shares the worker's
    /// open file, blocking mode included, so read it with `MSG_DONTWAIT` only (as
    /// [`receive`](crate::fdpass::receive) does). While it is open the worker's death does not show as the
    /// end of the channel.
    pub worker: OwnedFd,
}

/// A started process, before it becomes a [`Child`](super::Child).
pub(super) struct Started {
    pub(super) created: Created,
    pub(super) channel: Option<ChannelEnds>,
    pub(super) lending: Lending,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// Starts the process and waits until it has become its program (or could not).
pub(super) fn spawn(
    spec: &SpawnSpec,
    handed: &[BorrowedFd<'_>],
    group: Option<&Group>,
) -> Result<Started, SpawnError> {
    let name = spec.program.to_string_lossy().into_owned();
    let step = |step| {
        let name = name.clone();
        move |error: io::Error| SpawnError::at_step(&name, step, error)
    };
    let mut strings = Strings::of(spec, &name)?;
    let listen_pid = strings.listen_pid();
    let lift = Lift { min: Plan::safe_fd_min(handed.len() + usize::from(spec.channel)) };
    let (stdin, stdin_writer) = lift.input(spec.stdin).map_err(step("preparing its input"))?;
    let (stdout, stdout_reader) =
        lift.output(spec.stdout, io::stdout().as_fd()).map_err(step("preparing its output"))?;
    let (stderr, stderr_reader) =
        lift.output(spec.stderr, io::stderr().as_fd()).map_err(step("preparing its output"))?;
    let owner = spec.owner.as_ref().filter(|owner| is_another(owner));
    if let Some(owner) = owner {
        let pipes = [(&stdin, stdin_writer.is_some()), (&stdout, stdout_reader.is_some())];
        for (pipe, is_pipe) in pipes.into_iter().chain([(&stderr, stderr_reader.is_some())]) {
            // What it cannot be given it cannot open once more, as `/dev/stdout`; nothing else is lost.
            if is_pipe {
                drop(std::os::unix::fs::fchown(pipe, Some(owner.uid), Some(owner.gid)));
            }
        }
    }
    let channel = spec.channel.then(|| make_channel(lift)).transpose().map_err(step("making its channel"))?;
    let handed = lift.copies(handed).map_err(step("copying its descriptors"))?;
    let (reader, report) =
        pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from).map_err(step("making a pipe"))?;
    let report = lift.own(report).map_err(step("making a pipe"))?;

    let lender = Lender::of(spec, lift).map_err(step("making a socket"))?;

    let plan = Plan {
        candidates: strings.candidates.clone(),
        argv: pointers(&strings.argv),
        envp: strings.environment(),
        cwd: strings.cwd.clone(),
        stdio: [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()],
        handed: channel.iter().map(|ends| &ends.worker).chain(&handed).map(AsRawFd::as_raw_fd).collect(),
        report: report.as_raw_fd(),
        cgroup_procs: None,
        lending: lender.plan(),
        nofile_soft: spec.nofile_soft,
        owner: owner.cloned(),
        parent_death_signal: spec.parent_death_signal,
        listen_pid,
        host_pid: rustix::process::getpid().as_raw_pid(),
    };
    let created = create::create(plan, group).map_err(step("creating the process"))?;
    drop(report);
    if let Some(failure) = read_failure(&reader).map_err(step("hearing from the process"))? {
        bury(&created);
        return Err(explain(spec, &name, &strings.candidates, failure));
    }
    let lending = match lender.hear() {
        Ok(lending) => lending,
        Err(error) => {
            end(&created);
            return Err(step("taking over its trapped calls")(error));
        }
    };
    Ok(Started {
        created,
        channel,
        lending,
        stdin: stdin_writer,
        stdout: stdout_reader,
        stderr: stderr_reader,
    })
}

/// The strings of a [`Plan`]; its pointers point in here.
pub(super) struct Strings {
    candidates: Vec<CString>,
    argv: Vec<CString>,
    envp: Vec<CString>,
    /// The variable with the process's number, with room for it.
    listen_pid: Option<Vec<u8>>,
    cwd: Option<CString>,
}

impl Strings {
    fn of(spec: &SpawnSpec, name: &str) -> Result<Self, SpawnError> {
        let c_string = |what: &str, text: OsString| {
            let error = |_| SpawnError::ZeroByte { program: name.to_owned(), what: what.to_owned() };
            CString::new(text.into_vec()).map_err(error)
        };
        let mut argv = vec![c_string("the program's name", spec.program.clone())?];
        for arg in &spec.args {
            argv.push(c_string("an argument", arg.clone())?);
        }
        let mut envp = Vec::with_capacity(spec.env.len() + 1);
        // The process's own number takes the place of another's.
        let is_given = |key: &OsStr| !(spec.listen_pid && key == LISTEN_PID_VARIABLE);
        for (key, value) in environment(spec).into_iter().filter(|(key, _)| is_given(key)) {
            let mut entry = key.to_owned();
            entry.push("=");
            entry.push(value);
            envp.push(c_string(&format!("the environment variable {}", key.to_string_lossy()), entry)?);
        }
        let mut candidates = Vec::new();
        for path in places(spec) {
            candidates.push(c_string("the program's path", path.into_os_string())?);
        }
        let cwd = spec
            .cwd
            .clone()
            .map(|cwd| c_string("the working directory", cwd.into_os_string()))
            .transpose()?;
        let room = || format!("{LISTEN_PID_VARIABLE}=\0{}", "\0".repeat(PID_DIGITS_MAX)).into_bytes();
        let listen_pid = spec.listen_pid.then(room);
        Ok(Self { candidates, argv, envp, listen_pid, cwd })
    }

    /// Where the new process writes its number.
    fn listen_pid(&mut self) -> Option<*mut u8> {
        let room = self.listen_pid.as_mut()?;
        room.get_mut(LISTEN_PID_VARIABLE.len() + 1..).map(<[u8]>::as_mut_ptr)
    }

    /// The environment, null-terminated.
    fn environment(&self) -> Vec<*const libc::c_char> {
        let own = self.listen_pid.iter().map(|it| it.as_ptr().cast());
        let others = self.envp.iter().map(|it| it.as_ptr());
        own.chain(others).chain([std::ptr::null()]).collect()
    }
}

/// The spec's variables in order, each name once with its last value, and the label.
fn environment(spec: &SpawnSpec) -> Vec<(&OsStr, &OsStr)> {
    let mut place_of = HashMap::new();
    let mut variables: Vec<(&OsStr, &OsStr)> = Vec::with_capacity(spec.env.len() + 1);
    let label = (OsStr::new(LABEL_VARIABLE), OsStr::new(&spec.label));
    let given = spec.env.iter().map(|(key, value)| (key.as_os_str(), value.as_os_str()));
    let labels = (!spec.label.is_empty()).then_some(label);
    for (key, value) in given.filter(|(key, _)| *key != LABEL_VARIABLE).chain(labels) {
        match place_of.get(key) {
            Some(place) => {
                let entry: &mut (&OsStr, &OsStr) = &mut variables[*place];
                entry.1 = value;
            }
            None => {
                place_of.insert(key, variables.len());
                variables.push((key, value));
            }
        }
    }
    variables
}

/// Whether it takes a change to run as this user: a Host without privilege may be it already.
fn is_another(owner: &Identity) -> bool {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    uid.is_root() || (uid.as_raw(), gid.as_raw()) != (owner.uid, owner.gid)
}

/// Where the program may be: one place if its name has a slash, else one per entry of the spec's `PATH`.
fn places(spec: &SpawnSpec) -> Vec<PathBuf> {
    let program = Path::new(&spec.program);
    if program.as_os_str().is_empty() {
        return Vec::new();
    }
    if program.as_os_str().as_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    let path = spec.env_value("PATH").unwrap_or(OsStr::new(DEFAULT_PATH));
    let folder =
        |bytes: &[u8]| if bytes.is_empty() { PathBuf::from(".") } else { OsStr::from_bytes(bytes).into() };
    path.as_bytes().split(|byte| *byte == b':').map(|bytes| folder(bytes).join(program)).collect()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Gives descriptors numbers that the new process does not overwrite.
#[derive(Clone, Copy)]
struct Lift {
    min: RawFd,
}

impl Lift {
    fn own(self, fd: OwnedFd) -> io::Result<OwnedFd> {
        if fd.as_raw_fd() >= self.min { Ok(fd) } else { self.copy(fd.as_fd()) }
    }

    fn copy(self, fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(fd, self.min)?)
    }

    fn copies(self, fds: &[BorrowedFd<'_>]) -> io::Result<Vec<OwnedFd>> {
        fds.iter().map(|fd| self.copy(*fd)).collect()
    }

    fn null(self) -> io::Result<OwnedFd> {
        self.own(rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// What the process reads from, and our end of it if it is a pipe.
    fn input(self, choice: Input) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
        match choice {
            Input::Null => Ok((self.null()?, None)),
            Input::Pipe => {
                let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
                rustix::io::ioctl_fionbio(&writer, true)?;
                Ok((self.own(reader)?, Some(writer)))
            }
        }
    }

    /// What the process writes to, and our end of it if it is a pipe.
    fn output(self, choice: Output, own: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
        match choice {
            Output::Null => Ok((self.null()?, None)),
            Output::Inherit => match self.copy(own) {
                // A program started without the stream has nothing to hand down.
                Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok((self.null()?, None)),
                copy => Ok((copy?, None)),
            },
            Output::Pipe => {
                let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
                rustix::io::ioctl_fionbio(&reader, true)?;
                Ok((self.own(writer)?, Some(reader)))
            }
        }
    }
}

/// How the Host comes by the listening end of a process's filter.
enum Lender {
    Off,
    Impossible(String),
    Possible { ours: OwnedFd, theirs: OwnedFd },
}

impl Lender {
    fn of(spec: &SpawnSpec, lift: Lift) -> io::Result<Self> {
        if !spec.lend {
            return Ok(Self::Off);
        }
        if let Some(why) = obstacle() {
            return Ok(Self::Impossible(why));
        }
        let (ours, theirs) = packet::pair()?;
        Ok(Self::Possible { ours, theirs: lift.own(theirs)? })
    }

    fn plan(&self) -> Option<install::Plan> {
        match self {
            Self::Possible { theirs, .. } => Some(install::Plan::new(theirs.as_raw_fd())),
            Self::Off | Self::Impossible(_) => None,
        }
    }

    /// What the process has said, once it runs its program.
    fn hear(self) -> io::Result<Lending> {
        match self {
            Self::Off => Ok(Lending::Off),
            Self::Impossible(why) => Ok(Lending::Impossible(why)),
            Self::Possible { ours, theirs } => {
                drop(theirs);
                match install::installed(ours.as_fd())? {
                    Installed::On(listener) => Ok(Lending::On(listener)),
                    Installed::Not(why) => Ok(Lending::Impossible(why)),
                }
            }
        }
    }
}

fn make_channel(lift: Lift) -> io::Result<ChannelEnds> {
    let ChannelEnds { primary, worker } = ChannelEnds::new()?;
    Ok(ChannelEnds { primary, worker: lift.own(worker)? })
}

impl ChannelEnds {
    /// A channel with large buffers; the worker's end blocks, as the runtimes that take it expect.
    ///
    /// `EMFILE`.
    pub fn new() -> io::Result<Self> {
        let (primary, worker) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&primary, true)?;
        for end in [&primary, &worker] {
            // Privileged programs may exceed the system's maximum; the others get what is allowed.
            if sockopt::set_socket_send_buffer_size_force(end, CHANNEL_BUFFER_BYTES).is_err() {
                sockopt::set_socket_send_buffer_size(end, CHANNEL_BUFFER_BYTES)?;
            }
            if sockopt::set_socket_recv_buffer_size_force(end, CHANNEL_BUFFER_BYTES).is_err() {
                sockopt::set_socket_recv_buffer_size(end, CHANNEL_BUFFER_BYTES)?;
            }
        }
        Ok(Self { primary, worker })
    }
}

/// Blocks until the process became its program (end of file) or reports why it could not.
fn read_failure(reader: &OwnedFd) -> io::Result<Option<Failure>> {
    let mut bytes = [0; Failure::BYTES];
    loop {
        match rustix::io::read(reader, &mut bytes) {
            // Writes this small are never cut.
            Ok(Failure::BYTES) => return Ok(Some(Failure::decode(bytes))),
            Ok(_end) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills a process whose trapped calls nobody would answer.
fn end(created: &Created) {
    drop(sys::pidfd_send_signal(created.pidfd.as_fd(), libc::SIGKILL, 0));
    bury(created);
}

/// Takes the exit of a process that never became its program; it is exiting already.
fn bury(created: &Created) {
    while let Err(Errno::INTR) = waitid(WaitId::PidFd(created.pidfd.as_fd()), WaitIdOptions::EXITED) {}
}

fn explain(spec: &SpawnSpec, name: &str, candidates: &[CString], failure: Failure) -> SpawnError {
    let source = io::Error::from_raw_os_error(failure.errno);
    match (failure.step, &spec.cwd) {
        (Step::Exec, _) => explain_exec(spec, name, candidates, failure),
        (Step::Cwd, Some(cwd)) => SpawnError::BadCwd { program: name.to_owned(), path: cwd.clone(), source },
        (Step::Cwd, None) | (Step::Group, _) => SpawnError::at_step(name, "making its process group", source),
        (Step::Lending, _) => SpawnError::at_step(name, "handing over its trapped calls", source),
        (Step::Descriptors, _) => SpawnError::at_step(name, "arranging its descriptors", source),
        (Step::Limit, _) => SpawnError::at_step(name, "setting its descriptor limit", source),
        (Step::Owner, _) => SpawnError::BadOwner {
            program: name.to_owned(),
            uid: spec.owner.as_ref().map_or(0, |owner| owner.uid),
            source,
        },
        (Step::DeathSignal, _) => SpawnError::at_step(name, "tying it to its parent", source),
    }
}

fn explain_exec(spec: &SpawnSpec, name: &str, candidates: &[CString], failure: Failure) -> SpawnError {
    let cwd = spec.cwd.as_deref().unwrap_or(Path::new(""));
    let at = |candidate: &CString| cwd.join(OsStr::from_bytes(candidate.as_bytes()));
    let path = candidates.get(failure.candidate as usize).map(at).unwrap_or_default();
    match failure.errno {
        libc::ENOENT | libc::ENOTDIR => match candidates.iter().map(at).find(|path| path.is_file()) {
            Some(path) => SpawnError::InterpreterMissing { path },
            None => SpawnError::NotFound { program: name.to_owned() },
        },
        libc::EACCES | libc::EPERM => SpawnError::PermissionDenied { path },
        libc::ENOEXEC => SpawnError::NotAProgram { path },
        errno => SpawnError::at_step(name, "executing it", io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_variable_wins_and_the_label_cannot_be_forged() {
        let mut spec = SpawnSpec::new("x");
        spec.label = "app:0:1".into();
        for (key, value) in [("A", "1"), (LABEL_VARIABLE, "forged"), ("B", "2"), ("A", "3")] {
            spec.env.push((key.into(), value.into()));
        }
        let expected = [("A", "3"), ("B", "2"), (LABEL_VARIABLE, "app:0:1")];
        assert_eq!(environment(&spec), expected.map(|(key, value)| (OsStr::new(key), OsStr::new(value))));
    }

    #[test]
    fn programs_are_searched_in_the_path_of_the_spec() {
        let mut spec = SpawnSpec::new("node");
        assert_eq!(places(&spec), [Path::new("/bin/node"), Path::new("/usr/bin/node")]);
        spec.env.push(("PATH".into(), "/a::/b".into()));
        assert_eq!(places(&spec), [Path::new("/a/node"), Path::new("./node"), Path::new("/b/node")]);
        spec.program = "./run".into();
        assert_eq!(places(&spec), [Path::new("./run")]);
    }
}
