//! A worker wants a socket: find or bind the listener it means, and reply as its distribution asks.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oxherd_core::{AppId, Distribution, Event, Place};
use oxherd_os::socket::{self, ListenOptions, LocalAddr, UnixMode};
use oxherd_os::{Interest, io_errno};
use oxherd_wire::{AddressType, Listening, NewConn, Port, Query};

use crate::Alert;
use crate::traffic::group::Group;
use crate::traffic::listener::{Identity, Listener, Socket, Source};
use crate::traffic::orders::News;
use crate::traffic::worker::Standing;
use crate::traffic::{Token, Traffic};

/// Listeners of one app at most: each costs descriptors, and a worker can ask for ever new ones.
const MAX_LISTENERS: usize = 512;
/// Longest ticket keys that are kept and repeated; Node's are 100 bytes.
const MAX_DATA_BYTES: usize = 16 << 10;
/// Longest address that is shown.
const MAX_SHOWN_CHARS: usize = 256;
const DEFAULT_BACKLOG: u32 = 511;
const IPV6_ONLY: u32 = 1;
const REUSE_ADDRESS: u32 = 4;
/// `errno` values that a reply carries; the same on x86-64 and aarch64.
const EADDRINUSE: i32 = 98;
const EINVAL: i32 = 22;
pub(super) const EMFILE: i32 = 24;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;

impl Traffic {
    pub(in crate::traffic) fn on_query(&mut self, number: usize, query: Query) {
        let Some(query) = self.hold_query(number, query) else { return };
        let Some(place) = self.workers.get(number).map(|worker| worker.place) else { return };
        if query.data.as_ref().is_some_and(|data| data.len() > MAX_DATA_BYTES) {
            return self.reply_error(number, &Query { data: None, ..query }, EINVAL);
        }
        let identity = identify(place, &query);
        let found = identity.as_ref().and_then(|identity| self.listeners.find(identity));
        let has = |listener| self.workers.get(number).is_some_and(|it| it.registered.contains(&listener));
        if found.is_some_and(has) {
            return self.reply_error(number, &query, EADDRINUSE);
        }
        let opened = match (found, identity) {
            // One that was closed with its app's doors still has those who wait there.
            (Some(listener), _) => Ok(listener),
            (None, Some(identity)) => self.open(place, identity, &query),
            (None, None) => Err(io::Error::from_raw_os_error(EINVAL)),
        };
        match opened {
            Ok(listener) => self.lend(number, listener, query),
            Err(error) => {
                let (app, address, what) = (place.app, describe_query(&query), words(&error));
                self.tell_from(number, News::Alert(Alert::CannotListen { app, address, error: what }));
                self.reply_error(number, &query, errno_for(&query, &error));
            }
        }
    }

    pub(in crate::traffic) fn on_listening(&mut self, number: usize, listening: &Listening) {
        let Some(worker) = self.workers.get(number) else { return };
        let is_meant = |listener: &&Listener| {
            let identity = &listener.identity;
            let real = listener.sockname.map(|address| address.port());
            let port = port_number(listening.port);
            identity.address_type == listening.address_type
                && identity.address == listening.address
                && (identity.port == port || real == port)
        };
        let mine = worker.registered.iter().filter_map(|listener| self.listeners.get(*listener));
        let address = mine.into_iter().find(is_meant).map(|listener| listener.address.clone());
        if let Some(address) = address {
            let instance = worker.place.instance;
            self.tell_from(number, News::Fact(Event::Listening { instance, address }));
        }
    }

    /// The worker has closed a server. When it was the last that used the listener, and nobody is on the way
    /// out, the program does not want it any more, and clients must not wait there.
    pub(in crate::traffic) fn on_close(&mut self, number: usize, key: &str) {
        let Some(listener) = self.workers.get(number).and_then(|worker| {
            let named = |it: &usize| self.listeners.get(*it).is_some_and(|listener| listener.key == key);
            worker.registered.iter().copied().find(named)
        }) else {
            return;
        };
        let leaving = self.workers.get(number).is_none_or(|worker| worker.standing != Standing::Open);
        if leaving || self.is_used_but_by(Some(number), listener) {
            self.take_listener(number, listener);
        } else {
            // The listener goes first: one that is kept and that nobody uses would let clients wait for ever.
            self.close_listener(listener);
        }
    }

    pub(in crate::traffic) fn is_used_but_by(&self, except: Option<usize>, listener: usize) -> bool {
        let uses = |(number, worker): (usize, &crate::traffic::worker::Worker)| {
            Some(number) != except && worker.registered.contains(&listener)
        };
        self.workers.iter().any(uses) || self.holders().are_lent(listener)
    }

    pub(in crate::traffic) fn close_listener(&mut self, number: usize) {
        let Some(mut listener) = self.listeners.remove(number) else { return };
        let members = match &listener.socket {
            Socket::Kernel(group) => group.members().iter().map(|member| member.number).collect(),
            Socket::Handoff(_) | Socket::Shared(_) | Socket::Udp(_) | Socket::Closed => Vec::new(),
        };
        listener.shut(&self.poller);
        self.unkeep_listener(number, &members);
        let users: Vec<usize> = self
            .workers
            .iter()
            .filter(|(_, it)| it.registered.contains(&number))
            .map(|(user, _)| user)
            .collect();
        for user in users {
            if let Some(worker) = self.workers.get_mut(user) {
                worker.registered.retain(|it| *it != number);
            }
            self.keep_uses(user);
        }
        self.forget_lent(number);
    }

    fn open(&mut self, place: Place, identity: Identity, query: &Query) -> io::Result<usize> {
        self.make_room(place.app)?;
        let number = self.listeners.vacant();
        let (socket, local) = self.bind_for(place, number, query)?;
        let key = format!("L{number}");
        self.listeners.push(Listener {
            newconn: NewConn::new(&key),
            key,
            sockname: sockname(&local),
            address: describe(query, &local),
            data: None,
            socket,
            returned: Default::default(),
            paused_until: 0,
            identity,
        });
        self.keep_listener(number);
        Ok(number)
    }

    fn bind_for(&self, place: Place, number: usize, query: &Query) -> io::Result<(Socket, LocalAddr)> {
        let distribution = self.apps.get(&place.app).map_or(Distribution::Handoff, |app| app.distribution);
        let backlog = query.backlog.unwrap_or(DEFAULT_BACKLOG).min(i32::MAX as u32) as i32;
        let socket = bind(place, query, distribution, backlog)?;
        let local = match &socket {
            Socket::Handoff(source) => socket::local_addr(&source.fd)?,
            Socket::Shared(fd) | Socket::Udp(fd) => socket::local_addr(fd)?,
            Socket::Kernel(group) => LocalAddr::Inet(group.address()),
            Socket::Closed => LocalAddr::Unnamed,
        };
        if let Socket::Handoff(source) = &socket {
            let token = Token::Source { listener: number, source: 0 };
            self.poller.add(&source.fd, token.encode(), Interest::READ | Interest::ONCE)?;
        }
        Ok((socket, local))
    }

    /// An app has so many listeners at most. One that was left by its last user, who did not close it, goes first.
    pub(in crate::traffic) fn make_room(&mut self, app: AppId) -> io::Result<()> {
        let all = self.listeners.of_app(app);
        if all.len() < MAX_LISTENERS {
            return Ok(());
        }
        let lent = self.borrowers.iter().flat_map(|(_, it)| it.registered.iter());
        let used: BTreeSet<usize> =
            self.workers.iter().flat_map(|(_, it)| it.registered.iter()).chain(lent).copied().collect();
        let is_idle = |number: &usize| {
            !used.contains(number) && self.listeners.get(*number).is_some_and(|it| it.returned.is_empty())
        };
        let idle = all.into_iter().find(is_idle).ok_or(io::Error::from_raw_os_error(EMFILE))?;
        self.close_listener(idle);
        Ok(())
    }
}

/// What the system says, as part of a sentence: without its capital and its number.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| format!("{}{}", first.to_lowercase(), chars.as_str()))
}

/// As libuv tells it: a missing folder of a socket's path is a lack of access there, as on Windows.
fn errno_for(query: &Query, error: &io::Error) -> i32 {
    match (query.address_type, io_errno(error)) {
        (AddressType::Path, ENOENT) => EACCES,
        (_, errno) => errno,
    }
}

/// What listener a query means, if it means one that a primary can have.
fn identify(place: Place, query: &Query) -> Option<Identity> {
    let port = port_number(query.port);
    match query.address_type {
        AddressType::Fd => return None,
        AddressType::Path if query.address.is_none() => return None,
        AddressType::Path | AddressType::V4 | AddressType::V6 | AddressType::Udp4 | AddressType::Udp6 => {}
    }
    let any_port = query.address_type != AddressType::Path && port.is_none_or(|port| port == 0);
    Some(Identity {
        app: place.app,
        address_type: query.address_type,
        address: query.address.clone(),
        port: port.or(any_port.then_some(0)),
        v6_only: query.flags.unwrap_or(0) & IPV6_ONLY != 0,
        index: any_port.then_some(query.index),
    })
}

fn port_number(port: Port) -> Option<u16> {
    match port {
        Port::Number(port) => Some(port),
        Port::Absent | Port::Null | Port::Path => None,
    }
}

fn bind(place: Place, query: &Query, distribution: Distribution, backlog: i32) -> io::Result<Socket> {
    let v6_only = query.flags.unwrap_or(0) & IPV6_ONLY != 0;
    match query.address_type {
        AddressType::Udp4 | AddressType::Udp6 => bind_udp(query, v6_only).map(Socket::Udp),
        AddressType::Path => {
            let listener = bind_path(query, backlog)?;
            Ok(match distribution {
                Distribution::Shared => Socket::Shared(listener),
                Distribution::Handoff | Distribution::Kernel => Socket::Handoff(Source::new(listener)),
            })
        }
        AddressType::V4 | AddressType::V6 => with_fallback(query, |address, default_v6_only| {
            let v6_only = if v6_only { Some(true) } else { default_v6_only };
            let options = ListenOptions { backlog, v6_only, reuse_port: false, listen_now: true };
            Ok(match distribution {
                Distribution::Handoff => Socket::Handoff(Source::new(socket::listen_tcp(address, &options)?)),
                Distribution::Shared => Socket::Shared(socket::listen_tcp(address, &options)?),
                Distribution::Kernel => Socket::Kernel(Group::open(address, v6_only, backlog, place.slot)?),
            })
        }),
        AddressType::Fd => Err(io::Error::from_raw_os_error(EINVAL)),
    }
}

/// Without an address Node means all of them: IPv6 with IPv4 in it, or IPv4 alone on a machine without IPv6.
fn with_fallback<T>(
    query: &Query,
    bind: impl Fn(SocketAddr, Option<bool>) -> io::Result<T>,
) -> io::Result<T> {
    let port = port_number(query.port).unwrap_or(0);
    match &query.address {
        Some(address) => bind(SocketAddr::new(parse_ip(address)?, port), None),
        None => match bind((Ipv6Addr::UNSPECIFIED, port).into(), Some(false)) {
            Err(error) if lacks_ipv6(&error) => bind((Ipv4Addr::UNSPECIFIED, port).into(), None),
            result => result,
        },
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    const EADDRNOTAVAIL: i32 = 99;
    matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL))
}

fn parse_ip(address: &str) -> io::Result<IpAddr> {
    // A scope ("fe80::1%eth0") is beyond what std can parse, and Node sends it as it got it.
    address.parse().map_err(|_| io::Error::from_raw_os_error(EINVAL))
}

fn bind_udp(query: &Query, v6_only: bool) -> io::Result<OwnedFd> {
    let unspecified: IpAddr = match query.address_type {
        AddressType::Udp6 => Ipv6Addr::UNSPECIFIED.into(),
        AddressType::Udp4 | AddressType::V4 | AddressType::V6 | AddressType::Path | AddressType::Fd => {
            Ipv4Addr::UNSPECIFIED.into()
        }
    };
    let ip = query.address.as_deref().map_or(Ok(unspecified), parse_ip)?;
    let address = SocketAddr::new(ip, port_number(query.port).unwrap_or(0));
    let reuse_address = query.flags.unwrap_or(0) & REUSE_ADDRESS != 0;
    socket::bind_udp(address, ip.is_ipv6().then_some(v6_only), reuse_address, false)
}

fn bind_path(query: &Query, backlog: i32) -> io::Result<OwnedFd> {
    let mode = UnixMode { readable_all: query.readable_all, writable_all: query.writable_all };
    socket::listen_unix(&socket_path(query.address.as_deref().unwrap_or_default()), backlog, mode)
}

/// An abstract name reaches us behind the worker's working directory, as Node resolves it like a path.
fn socket_path(address: &str) -> PathBuf {
    match address.find('\0') {
        Some(at) => PathBuf::from(address.split_at(at).1),
        None => Path::new(address).to_path_buf(),
    }
}

fn sockname(local: &LocalAddr) -> Option<SocketAddr> {
    match local {
        LocalAddr::Inet(address) => Some(*address),
        LocalAddr::Unix(_) | LocalAddr::Abstract(_) | LocalAddr::Unnamed => None,
    }
}

fn describe(query: &Query, local: &LocalAddr) -> String {
    let place = match local {
        LocalAddr::Inet(address) => address.to_string(),
        LocalAddr::Unix(_) | LocalAddr::Unnamed => query.address.clone().unwrap_or_default(),
        LocalAddr::Abstract(name) => format!("@{}", String::from_utf8_lossy(name)),
    };
    match query.address_type {
        AddressType::Udp4 | AddressType::Udp6 => format!("udp {place}"),
        AddressType::V4 | AddressType::V6 | AddressType::Path | AddressType::Fd => place,
    }
}

fn describe_query(query: &Query) -> String {
    let address: String = query.address.as_deref().unwrap_or("*").chars().take(MAX_SHOWN_CHARS).collect();
    match (query.address_type, port_number(query.port)) {
        (AddressType::Path | AddressType::Fd, _) | (_, None) => address,
        (AddressType::V6, Some(port)) => format!("[{address}]:{port}"),
        (_, Some(port)) => format!("{address}:{port}"),
    }
}
