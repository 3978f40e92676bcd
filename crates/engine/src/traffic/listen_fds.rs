//! Workers that are started with their app's listeners: opened by the primary, a pair for each slot, and handed to the
//! process as it is made.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use oxherd_core::{Distribution, ListenAt, Place};
use oxherd_os::foreign;
use oxherd_os::socket::{self, ListenOptions, UnixMode};
use oxherd_wire::{AddressType, NewConn};

use crate::traffic::Traffic;
use crate::traffic::apps::App;
use crate::traffic::group::Group;
use crate::traffic::listener::{Identity, Listener, Socket};
use crate::traffic::orders::Opening;

impl Traffic {
    pub(super) fn open_for_start(&mut self, opening: Opening) {
        let Opening { place, spec, reply } = opening;
        let seed = self.now;
        self.apps.entry(place.app).or_insert_with(|| App::new(&spec, seed));
        let open = |traffic: &mut Self, at: &ListenAt| {
            traffic.open_at(place, at).map_err(|error| format!("cannot listen on {}: {error}", at.address))
        };
        let opened: Result<Vec<OwnedFd>, String> = spec.listen.iter().map(|at| open(self, at)).collect();
        if opened.is_err() {
            for listener in self.opened.remove(&place.instance).unwrap_or_default() {
                self.release(place.instance, listener);
            }
        }
        // Whoever asked waits for it.
        drop(reply.send(opened));
    }

    fn open_at(&mut self, place: Place, at: &ListenAt) -> io::Result<OwnedFd> {
        let identity = identity_of(place, at);
        let listener = match self.listeners.find(&identity) {
            Some(listener) => listener,
            None => self.open_new(place, at, identity)?,
        };
        self.opened.entry(place.instance).or_default().push(listener);
        let fd = self.lend_at_start(place, listener)?;
        // As service managers hand them over.
        foreign::set_blocking(&fd)?;
        self.keep_listener(listener);
        self.refresh_group(listener);
        Ok(fd)
    }

    fn lend_at_start(&mut self, place: Place, listener: usize) -> io::Result<OwnedFd> {
        let holders = crate::traffic::holder::Holders { workers: &self.workers, borrowers: &self.borrowers };
        let is_leaving = |instance| holders.is_leaving(instance);
        match self.listeners.get_mut(listener).map(|it| &mut it.socket) {
            Some(Socket::Kernel(group)) => {
                group.lend(place.slot, place.instance, is_leaving)?.source.fd.try_clone()
            }
            Some(Socket::Shared(fd)) => fd.try_clone(),
            Some(Socket::Handoff(_) | Socket::Udp(_) | Socket::Closed) | None => {
                Err(io::ErrorKind::AddrInUse.into())
            }
        }
    }

    fn open_new(&mut self, place: Place, at: &ListenAt, identity: Identity) -> io::Result<usize> {
        self.make_room(place.app)?;
        let distribution = self.apps.get(&place.app).map_or(Distribution::Kernel, |app| app.distribution);
        let options = ListenOptions::default();
        let (socket, sockname) = match (at.address.parse::<SocketAddr>(), distribution) {
            (Ok(address), Distribution::Shared) => {
                (Socket::Shared(socket::listen_tcp(address, &options)?), Some(address))
            }
            (Ok(address), Distribution::Kernel | Distribution::Handoff) => {
                let group = Group::open(address, None, options.backlog, place.slot)?;
                (Socket::Kernel(group), Some(address))
            }
            (Err(_), _) => {
                let path = Path::new(&at.address);
                (Socket::Shared(socket::listen_unix(path, options.backlog, UnixMode::default())?), None)
            }
        };
        let number = self.listeners.vacant();
        let key = format!("L{number}");
        self.listeners.push(Listener {
            newconn: NewConn::new(&key),
            key,
            sockname,
            address: at.address.clone(),
            data: None,
            socket,
            returned: Default::default(),
            paused_until: 0,
            identity,
        });
        Ok(number)
    }
}

fn identity_of(place: Place, at: &ListenAt) -> Identity {
    let (address_type, address, port) = match at.address.parse::<SocketAddr>() {
        Ok(it) if it.is_ipv4() => (AddressType::V4, it.ip().to_string(), Some(it.port())),
        Ok(it) => (AddressType::V6, it.ip().to_string(), Some(it.port())),
        Err(_) => (AddressType::Path, at.address.clone(), None),
    };
    Identity { app: place.app, address_type, address: Some(address), port, v6_only: false, index: None }
}
