//! Unix sockets of workers that borrow.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::borrowers::{Borrowed, Pasture};
use crate::traffic::Order;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("oxherd-engine-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// As most programs do it: the file is taken away first.
fn script(folder: &Path) -> String {
    format!(
        "
os.chdir('{}')
if os.path.exists('app.sock'): os.unlink('app.sock')
s = socket.socket(socket.AF_UNIX)
s.bind('app.sock')
s.listen(64)
serve(s)",
        folder.display()
    )
}

fn worker(pasture: &mut Pasture, folder: &Path, slot: u32) -> Borrowed {
    let worker = pasture.spawn(slot, &script(folder));
    pasture.until_listening(&worker);
    pasture.herd.order(Order::Admit(worker.place.instance));
    worker
}

fn ask(folder: &Path) -> u32 {
    let mut client = UnixStream::connect(folder.join("app.sock")).unwrap();
    client.write_all(b"question").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer.trim().parse().unwrap()
}

#[test]
fn one_socket_is_everybodys_and_its_file_stays() {
    let mut pasture = Pasture::new();
    let folder = folder("paths");
    let mut one = worker(&mut pasture, &folder, 0);
    assert_eq!(ask(&folder), one.child.pid);
    let other = worker(&mut pasture, &folder, 1);
    assert_eq!(pasture.herd.traffic.listeners.iter().count(), 1);
    pasture.kill(&mut one);
    assert_eq!(ask(&folder), other.child.pid);
    let mut third = worker(&mut pasture, &folder, 0);
    pasture.herd.order(Order::Withdraw(third.place.instance));
    pasture.until_withdrawn(&third);
    pasture.kill(&mut third);
    assert_eq!(ask(&folder), other.child.pid);
    pasture.herd.order(Order::CloseListeners(super::harness::APP));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn two_that_begin_at_once_share_one() {
    let mut pasture = Pasture::new();
    let folder = folder("paths-at-once");
    let workers: Vec<Borrowed> = (0..4).map(|slot| pasture.spawn(slot, &script(&folder))).collect();
    workers.iter().for_each(|it| pasture.until_listening(it));
    assert_eq!(pasture.herd.traffic.listeners.iter().count(), 1);
    let asked = ask(&folder);
    assert!(workers.iter().any(|it| it.child.pid == asked));
    pasture.herd.order(Order::CloseListeners(super::harness::APP));
    std::fs::remove_dir_all(folder).unwrap();
}
