//! The messages between daemon and keeper, and their bytes. Data only.
//!
//! A message is a line of JSON, then, if it has one, its body as it is: an image or an entry's bytes are never
//! looked into. The daemon asks, the keeper answers in order; some of what the daemon says is not answered.
//! Anything that does not parse must end in an error, never in a panic.

use std::ffi::OsString;

use oxherd_os::{ExitStatus, SpawnSpec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version of this protocol. Both sides come from one program, except while a keeper is being upgraded.
pub(crate) const PROTOCOL: u32 = 1;

/// What a daemon says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// The first message; answered by the greeting.
    Hello {
        /// The daemon's [`PROTOCOL`].
        protocol: u32,
    },
    /// The next piece of the estate, please. Also says that the piece before has arrived.
    Next,
    /// The daemon serves, or cannot. Not answered.
    Ready {
        /// Why it cannot.
        failure: Option<String>,
    },
    /// Start a process.
    Spawn {
        /// How.
        spec: Box<SpawnSpec>,
    },
    /// How did it end?
    TakeExit {
        /// Whose exit.
        label: String,
    },
    /// Kill it and all its descendants.
    KillTree {
        /// Whose tree.
        label: String,
    },
    /// Drop all that is held of it.
    Forget {
        /// Of whom.
        label: String,
    },
    /// Take the exits of orphans.
    Reap,
    /// How many members of killed trees are still dying?
    Dying,
    /// Keep the body as the fleet's image. Not answered.
    KeepImage,
    /// Keep an entry: the body are its bytes, and it may come with a descriptor. Not answered.
    Put {
        /// Its name.
        name: String,
    },
    /// Forget an entry. Not answered.
    Remove {
        /// Its name.
        name: String,
    },
    /// The daemon ends on purpose: it is not to be started again.
    Farewell {
        /// The code that the keeper is to exit with.
        code: u8,
    },
    /// Go on as another program.
    Upgrade {
        /// Its path; else that of the running one.
        program: Option<String>,
    },
    /// To a new keeper whose predecessor died: you are the keeper of the daemon that says so.
    Succeed(Box<Succession>),
    /// To a new keeper: hold this process.
    Adopt {
        /// Its label.
        label: String,
        /// Its number.
        pid: u32,
        /// A descriptor of its standard output comes after its pidfd.
        stdout: bool,
        /// Then one of its standard error.
        stderr: bool,
        /// Then one of its standard input.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        stdin: bool,
    },
    /// To a new keeper: that was all, and you may trace the daemon.
    Settled,
}

/// What a keeper says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// To a hello or a succession.
    Greeting(Box<Greeting>),
    /// A piece of the estate: a process; its pidfd comes along.
    Child {
        /// Its label.
        label: String,
        /// Its number.
        pid: u32,
    },
    /// A piece of the estate: an entry, with its bytes as the body and its descriptor, if it has one.
    Entry {
        /// Its name.
        name: String,
    },
    /// A piece of the estate: the image, as the body.
    Image,
    /// A piece of the estate: descriptors of connections.
    Connections,
    /// That was all of the estate.
    End,
    /// The process runs. Its pidfd comes along, then what is said here.
    Spawned {
        /// Its number.
        pid: u32,
        /// The reading end of its standard output.
        stdout: bool,
        /// The reading end of its standard error.
        stderr: bool,
        /// Both ends of its channel, the primary's first.
        channel: bool,
        /// The end at which its trapped calls are heard of.
        #[serde(default, skip_serializing_if = "Traps::are_off")]
        traps: Traps,
        /// The writing end of its standard input.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        stdin: bool,
    },
    /// The process could not be started.
    SpawnFailed {
        /// Why.
        message: String,
        /// Whether trying again is of no use.
        lasting: bool,
    },
    /// How a process ended, or that it runs.
    Exit {
        /// Its end.
        status: Option<ExitStatus>,
    },
    /// Nobody knows how it ended.
    UnknownExit,
    /// Members of killed trees that are still there.
    Dying {
        /// How many.
        count: u64,
    },
    /// It is done.
    Done,
    /// It is not done.
    Refused {
        /// Why.
        message: String,
    },
}

/// Whether a process's calls are trapped, so that it can be lent sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Traps {
    /// Nobody asked for it.
    #[default]
    Off,
    /// They are, and are heard of at a descriptor that comes along.
    On,
    /// They cannot be, and why.
    Impossible(String),
}

impl Traps {
    fn are_off(&self) -> bool {
        *self == Self::Off
    }
}

/// What a keeper tells each daemon first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The keeper's version of the protocol.
    pub protocol: u32,
    /// The keeper's process.
    pub keeper_pid: u32,
    /// How many daemons there were before this one.
    pub starts: u32,
    /// This boot of the machine.
    pub boot_id: String,
    /// What tells this primary's workers from those of any other. Drawn by the first keeper, and handed on.
    pub primary: String,
    /// The home folder.
    pub home: OsString,
    /// Whether the keeper was started in the foreground, to run one configuration.
    pub foreground: bool,
    /// What daemons are started with, after what tells them of their sockets.
    pub daemon_args: Vec<OsString>,
    /// The soft limit of descriptors that workers get.
    pub nofile: Option<u64>,
    /// Whether the image may be used. It may not when daemons died of it again and again.
    pub trust_image: bool,
    /// How many daemons in a row have died early.
    pub deaths: u32,
    /// How the daemon before this one ended, where that is known and was not on purpose.
    pub last_exit: Option<ExitStatus>,
    /// Why the connections of a daemon that dies cannot be saved.
    pub untraced: Option<String>,
    /// Why an upgrade that was begun has failed.
    pub upgrade_failure: Option<String>,
    /// How often the keeper has become another program.
    #[serde(default)]
    pub upgrades: u32,
}

/// What a daemon tells a new keeper, whose predecessor died. The stash's socket and a pidfd of the daemon come
/// along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Succession {
    /// The daemon's process.
    pub(crate) daemon_pid: u32,
    /// A descriptor of the home's lock comes as the third.
    pub(crate) lock: bool,
    /// What the predecessor told this daemon.
    pub(crate) greeting: Greeting,
}

/// Bytes that are no message of this protocol.
#[derive(Debug, Error)]
#[error("not a message of protocol version {PROTOCOL}: {0}")]
pub(crate) struct Garbled(#[from] serde_json::Error);

/// The bytes of a message.
pub(crate) fn encode(message: &impl Serialize, body: &[u8]) -> Result<Vec<u8>, Garbled> {
    let mut bytes = serde_json::to_vec(message)?;
    if !body.is_empty() {
        bytes.reserve_exact(body.len() + 1);
        bytes.push(b'\n');
        bytes.extend_from_slice(body);
    }
    Ok(bytes)
}

/// The same for a body in JSON. Room is made for `expected_bytes` at once.
pub(crate) fn encode_json(
    message: &impl Serialize,
    body: &impl Serialize,
    expected_bytes: usize,
) -> Result<Vec<u8>, Garbled> {
    let mut bytes = Vec::with_capacity(expected_bytes);
    serde_json::to_writer(&mut bytes, message)?;
    bytes.push(b'\n');
    serde_json::to_writer(&mut bytes, body)?;
    Ok(bytes)
}

/// The message and the body in these bytes.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), Garbled> {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let header = parts.next().unwrap_or_default();
    Ok((serde_json::from_slice(header)?, parts.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use oxherd_os::Output;

    use super::*;

    #[test]
    fn a_body_in_json_is_a_body_like_any_other() {
        let body = serde_json::json!({ "an": "image" });
        let bytes = encode(&Ask::KeepImage, &serde_json::to_vec(&body).unwrap()).unwrap();
        for expected in [0, 1000] {
            assert_eq!(encode_json(&Ask::KeepImage, &body, expected).unwrap(), bytes);
        }
    }

    fn check<T>(message: &T, body: &str, bytes: &str)
    where
        T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        assert_eq!(String::from_utf8(encode(message, body.as_bytes()).unwrap()).unwrap(), bytes);
        let (read, rest) = decode::<T>(bytes.as_bytes()).unwrap();
        assert_eq!((&read, rest), (message, body.as_bytes()));
    }

    #[test]
    fn what_daemons_say() {
        let label = || "p/a:0:1:0.1".to_owned();
        check(&Ask::Hello { protocol: 1 }, "", r#"{"hello":{"protocol":1}}"#);
        check(&Ask::Next, "", r#""next""#);
        check(&Ask::Ready { failure: None }, "", r#"{"ready":{"failure":null}}"#);
        check(&Ask::TakeExit { label: label() }, "", r#"{"take_exit":{"label":"p/a:0:1:0.1"}}"#);
        check(&Ask::KillTree { label: label() }, "", r#"{"kill_tree":{"label":"p/a:0:1:0.1"}}"#);
        check(&Ask::Forget { label: label() }, "", r#"{"forget":{"label":"p/a:0:1:0.1"}}"#);
        check(&Ask::Reap, "", r#""reap""#);
        check(&Ask::Dying, "", r#""dying""#);
        check(&Ask::KeepImage, "{\"an\":\n\"image\"}\n", "\"keep_image\"\n{\"an\":\n\"image\"}\n");
        check(&Ask::Put { name: "uses/x".into() }, "\n", "{\"put\":{\"name\":\"uses/x\"}}\n\n");
        check(&Ask::Remove { name: "a\nb".into() }, "", r#"{"remove":{"name":"a\nb"}}"#);
        check(&Ask::Farewell { code: 3 }, "", r#"{"farewell":{"code":3}}"#);
        check(&Ask::Upgrade { program: None }, "", r#"{"upgrade":{"program":null}}"#);
        let adopt = Ask::Adopt { label: label(), pid: 7, stdout: true, stderr: false, stdin: false };
        check(&adopt, "", r#"{"adopt":{"label":"p/a:0:1:0.1","pid":7,"stdout":true,"stderr":false}}"#);
        check(&Ask::Settled, "", r#""settled""#);
    }

    #[test]
    fn a_process_to_start() {
        let mut spec = SpawnSpec::new("x");
        spec.env.push(("A".into(), "b".into()));
        (spec.label, spec.channel, spec.lend) = ("l".into(), true, true);
        spec.stdout = Output::Pipe;
        let bytes = concat!(
            r#"{"spawn":{"spec":{"program":{"Unix":[120]},"args":[],"env":[[{"Unix":[65]},{"Unix":[98]}]],"cwd":null,"#,
            r#""label":"l","channel":true,"lend":true,"listen_pid":false,"stdout":"Pipe","stderr":"Inherit","parent_death_signal":false,"#,
            r#""nofile_soft":null}}}"#
        );
        check(&Ask::Spawn { spec: Box::new(spec.clone()) }, "", bytes);
        spec.lend = false;
        let older = bytes.replace(r#""lend":true,"listen_pid":false,"#, "");
        let (read, _) = decode::<Ask>(older.as_bytes()).unwrap();
        assert_eq!(read, Ask::Spawn { spec: Box::new(spec) });
    }

    #[test]
    fn what_keepers_say() {
        check(&Answer::Child { label: "l".into(), pid: 5 }, "", r#"{"child":{"label":"l","pid":5}}"#);
        check(&Answer::Entry { name: "n".into() }, "{}", "{\"entry\":{\"name\":\"n\"}}\n{}");
        check(&Answer::Image, "{}", "\"image\"\n{}");
        check(&Answer::Connections, "", r#""connections""#);
        check(&Answer::End, "", r#""end""#);
        let spawned = |traps| Answer::Spawned {
            pid: 5,
            stdout: true,
            stderr: false,
            channel: true,
            traps,
            stdin: false,
        };
        let bytes = |traps: &str| {
            let begin = r#"{"spawned":{"pid":5,"stdout":true,"stderr":false,"channel":true"#;
            format!("{begin}{traps}}}}}")
        };
        check(&spawned(Traps::Off), "", &bytes(""));
        check(&spawned(Traps::On), "", &bytes(r#","traps":"on""#));
        check(&spawned(Traps::Impossible("no".into())), "", &bytes(r#","traps":{"impossible":"no"}"#));
        let failed = Answer::SpawnFailed { message: "no".into(), lasting: true };
        check(&failed, "", r#"{"spawn_failed":{"message":"no","lasting":true}}"#);
        check(&Answer::Exit { status: None }, "", r#"{"exit":{"status":null}}"#);
        check(&Answer::Exit { status: Some(ExitStatus::Code(1)) }, "", r#"{"exit":{"status":{"Code":1}}}"#);
        check(&Answer::UnknownExit, "", r#""unknown_exit""#);
        check(&Answer::Dying { count: 2 }, "", r#"{"dying":{"count":2}}"#);
        check(&Answer::Done, "", r#""done""#);
        check(&Answer::Refused { message: "no".into() }, "", r#"{"refused":{"message":"no"}}"#);
    }

    #[test]
    fn greetings_and_successions() {
        let greeting = Greeting {
            protocol: 1,
            keeper_pid: 2,
            starts: 3,
            boot_id: "b".into(),
            primary: "p".into(),
            home: "/h".into(),
            foreground: false,
            daemon_args: vec!["x".into()],
            nofile: Some(4),
            trust_image: true,
            deaths: 5,
            last_exit: Some(ExitStatus::Signal { signal: 9, core_dumped: false }),
            untraced: None,
            upgrade_failure: Some("why".into()),
            upgrades: 6,
        };
        let bytes = concat!(
            r#"{"protocol":1,"keeper_pid":2,"starts":3,"boot_id":"b","primary":"p","home":{"Unix":[47,104]},"#,
            r#""foreground":false,"daemon_args":[{"Unix":[120]}],"nofile":4,"trust_image":true,"deaths":5,"#,
            r#""last_exit":{"Signal":{"signal":9,"core_dumped":false}},"untraced":null,"upgrade_failure":"why","upgrades":6}"#
        );
        check(&Answer::Greeting(Box::new(greeting.clone())), "", &format!("{{\"greeting\":{bytes}}}"));
        let succession = Succession { daemon_pid: 6, lock: true, greeting };
        let bytes = format!(r#"{{"succeed":{{"daemon_pid":6,"lock":true,"greeting":{bytes}}}}}"#);
        check(&Ask::Succeed(Box::new(succession)), "", &bytes);
    }

    #[test]
    fn garbage_is_an_error() {
        for bytes in [&b""[..], b"\n", b"{", b"\xff\n", b"{\"hello\":{}}", b"[]", b"\"next\"x", b"null\nbody"]
        {
            assert!(decode::<Ask>(bytes).is_err(), "{bytes:?}");
        }
    }
}
