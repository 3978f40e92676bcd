//! What goes together with how workers come by their sockets, and what does not: each refusal says the way out.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::{AppSpec, Distribution, Limits, ListenAt, Serialization, Sockets, SpecError};

/// `LISTEN_FDNAMES` holds no longer name.
const NAME_BYTES_MAX: usize = 255;
/// A path of a Unix socket has so many bytes at most, with the zero at its end.
const PATH_BYTES_MAX: usize = 108;

impl AppSpec {
    /// Whether all that depends on the sockets can be had with them.
    pub(crate) fn check_sockets(&self) -> Result<(), SpecError> {
        let sockets = self.sockets;
        if !self.has_channel() && self.serialization == Serialization::Advanced {
            return Err(SpecError::NothingToSerialize);
        }
        if self.borrows() && self.distribution == Distribution::Handoff {
            return Err(SpecError::NoHandoff(sockets));
        }
        if sockets != Sockets::Universal && !self.ports.is_all() {
            return Err(SpecError::PortsUnused(sockets));
        }
        if sockets != Sockets::ListenFds && !self.listen.is_empty() {
            return Err(SpecError::ListenUnused(sockets));
        }
        if self.standby > 0 && !self.can_park() {
            return Err(SpecError::NowhereToPark(sockets));
        }
        if sockets == Sockets::ListenFds { self.check_listen() } else { Ok(()) }
    }

    fn check_listen(&self) -> Result<(), SpecError> {
        if self.listen.is_empty() {
            return Err(SpecError::NothingToListenAt);
        }
        let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
        for listener in &self.listen {
            let place = listener.check().map_err(SpecError::BadListener)?;
            if !names.insert(&listener.name) {
                return Err(SpecError::ListenerTwice { what: "name", value: listener.name.clone() });
            }
            if !places.insert(place) {
                return Err(SpecError::ListenerTwice { what: "address", value: listener.address.clone() });
            }
        }
        Ok(())
    }

    /// Whether so many standbys are allowed.
    pub(crate) fn check_standby(&self, limits: Limits) -> Result<(), SpecError> {
        let (wanted, limit) = (self.standby, limits.max_instances);
        if wanted > limit { Err(SpecError::TooManyStandbys { wanted, limit }) } else { Ok(()) }
    }

    /// How connections reach workers of these sockets unless somebody chooses.
    pub fn usual_distribution(sockets: Sockets) -> Distribution {
        match sockets {
            Sockets::Universal | Sockets::ListenFds => Distribution::Kernel,
            Sockets::Channel | Sockets::None => Distribution::Handoff,
        }
    }

    /// Whether workers can be held when they want to listen.
    pub fn can_park(&self) -> bool {
        match self.sockets {
            Sockets::Channel | Sockets::Universal => true,
            Sockets::ListenFds | Sockets::None => false,
        }
    }
}

/// Where a listener is, however it is written.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum At<'a> {
    Ip(SocketAddr),
    Path(&'a str),
}

impl ListenAt {
    fn check(&self) -> Result<At<'_>, String> {
        let Self { name, address } = self;
        let is_plain = |c: char| c.is_ascii_graphic() && c != ':' || c == ' ';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_plain) {
            return Err(format!(
                "`{}` cannot be a listener's name: it has 1 to {NAME_BYTES_MAX} plain characters and no colon",
                name.escape_debug()
            ));
        }
        if address.starts_with('/') {
            let is_path = address.len() < PATH_BYTES_MAX && !address.contains('\0');
            let wrong =
                || format!("the path of listener `{name}` is longer than {} bytes", PATH_BYTES_MAX - 1);
            return is_path.then_some(At::Path(address)).ok_or_else(wrong);
        }
        match address.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(At::Ip(address)),
            Ok(_) => Err(format!("listener `{name}` has port 0: name the port that is meant")),
            Err(_) => Err(format!(
                "`{}` is no address for listener `{name}`: give an IP address and a port, such as 0.0.0.0:8080 or \
                 [::]:8080, or the absolute path of a Unix socket",
                address.escape_debug()
            )),
        }
    }
}

impl FromStr for ListenAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, address)) = text.split_once('=') else {
            return Err(format!("it has no `=`: write NAME={text}"));
        };
        let listener = Self { name: name.into(), address: address.into() };
        listener.check()?;
        Ok(listener)
    }
}

impl Sockets {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Universal => "universal",
            Self::ListenFds => "listen-fds",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Sockets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Channel, Self::Universal, Self::ListenFds, Self::None];
        let found = all.into_iter().find(|sockets| sockets.name() == text);
        found.ok_or_else(|| format!("unknown sockets `{text}` (channel, universal, listen-fds or none)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut AppSpec)) -> String {
        let mut spec = AppSpec::new("web", "python3");
        (spec.sockets, spec.distribution) = (Sockets::Universal, Distribution::Kernel);
        change(&mut spec);
        spec.check(Limits::default()).err().map_or_else(|| "fine".into(), |error| error.to_string())
    }

    fn listen(spec: &mut AppSpec, listeners: &[(&str, &str)]) {
        spec.sockets = Sockets::ListenFds;
        let listener =
            |(name, address): &(&str, &str)| ListenAt { name: (*name).into(), address: (*address).into() };
        spec.listen = listeners.iter().map(listener).collect();
    }

    #[test]
    fn what_goes_together_is_allowed() {
        assert_eq!(refused(|_| {}), "fine");
        assert_eq!(refused(|it| it.distribution = Distribution::Shared), "fine");
        assert_eq!(refused(|it| (it.standby, it.ports) = (2, "80,8000-8999".parse().unwrap())), "fine");
        assert_eq!(refused(|it| (it.sockets, it.standby) = (Sockets::Channel, 1)), "fine");
        let two = [("web", "0.0.0.0:80"), ("admin", "/run/admin.sock"), ("six", "[::1]:80")];
        assert_eq!(refused(|it| listen(it, &two)), "fine");
    }

    #[test]
    fn what_does_not_is_refused_with_a_way_out() {
        let ports =
            |sockets| move |it: &mut AppSpec| (it.sockets, it.ports) = (sockets, "80".parse().unwrap());
        let standby = |sockets| move |it: &mut AppSpec| (it.sockets, it.standby) = (sockets, 1);
        let mut all = vec![
            refused(|it| it.distribution = Distribution::Handoff),
            refused(|it| {
                listen(it, &[("web", "/run/web.sock")]);
                it.distribution = Distribution::Handoff;
            }),
            refused(|it| it.serialization = Serialization::Advanced),
            refused(ports(Sockets::Channel)),
            refused(ports(Sockets::None)),
            refused(standby(Sockets::None)),
            refused(|it| {
                listen(it, &[("web", "/run/web.sock")]);
                it.standby = 1;
            }),
            refused(|it| it.standby = 1025),
            refused(|it| {
                listen(it, &[("web", "127.0.0.1:80")]);
                it.sockets = Sockets::Channel;
            }),
            refused(|it| it.sockets = Sockets::ListenFds),
        ];
        let listeners: [&[(&str, &str)]; 9] = [
            &[("web", "127.0.0.1:80"), ("web", "127.0.0.1:81")],
            &[("a", "[::1]:80"), ("b", "[0::1]:80")],
            &[("a:b", "127.0.0.1:80")],
            &[("", "127.0.0.1:80")],
            &[("a\n", "127.0.0.1:80")],
            &[("web", "localhost:80")],
            &[("web", "127.0.0.1")],
            &[("web", "127.0.0.1:0")],
            &[("web", "run/web.sock")],
        ];
        all.extend(listeners.iter().map(|given| refused(|it| listen(it, given))));
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn a_listener_is_read_from_its_name_and_address() {
        let read = |text: &str| text.parse::<ListenAt>().map(|it| (it.name, it.address));
        assert_eq!(read("web=0.0.0.0:80"), Ok(("web".into(), "0.0.0.0:80".into())));
        assert_eq!(read("x=/run/a=b"), Ok(("x".into(), "/run/a=b".into())));
        assert!(read("0.0.0.0:80").unwrap_err().starts_with("it has no `=`"));
        assert!(read("a:b=0.0.0.0:80").is_err() && read("a=:80").is_err());
    }
}
