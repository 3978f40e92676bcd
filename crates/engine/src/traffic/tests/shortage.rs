//! The primary at its limit of open files: it says so once, does not spin, loses nobody, and goes on.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::harness::{Herd, client, clients, in_own_process, open_fds};
use crate::Alert;
use crate::traffic::News;

/// Leaves room for so many more descriptors.
fn leave_room_for(count: usize) {
    // One of those that are counted is the folder that is read for it.
    let current = Some((open_fds() - 1 + count) as u64);
    setrlimit(Resource::Nofile, Rlimit { current, ..getrlimit(Resource::Nofile) }).unwrap();
}

fn enough_room() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

fn told(herd: &Herd) -> (usize, usize) {
    let count = |is_it: fn(&Alert) -> bool| {
        herd.told.iter().filter(|news| matches!(news, News::Alert(alert) if is_it(alert))).count()
    };
    let out = count(|alert| matches!(alert, Alert::OutOfFds { .. }));
    (out, count(|alert| matches!(alert, Alert::FdsFree)))
}

#[test]
fn clients_wait_until_there_is_room() {
    if !in_own_process() {
        return;
    }
    let mut herd = Herd::new();
    let (mut worker, address) = herd.worker(0);
    let _clients = clients(address, 0..3);
    leave_room_for(0);
    for _ in 0..20 {
        herd.now += 100;
        assert!(herd.settle() < 10, "it spins");
    }
    assert_eq!(told(&herd), (1, 0));
    enough_room();
    herd.pass(100);
    assert_eq!(worker.take().unwrap().name(), 0);
    assert_eq!(worker.take().unwrap().name(), 1);
    herd.pass(1000);
    herd.pass(1000);
    assert_eq!(told(&herd), (1, 1));
}

#[test]
fn one_that_cannot_even_be_queued_is_offered_again() {
    if !in_own_process() {
        return;
    }
    let mut herd = Herd::without_recall();
    let (mut full, address) = herd.worker(0);
    let mut chatty = herd.attach(1);
    let id = full.place.instance.worker_id();
    // Its channel is filled to the last byte, with nothing waiting here: the next frame finds no room.
    let end = herd.traffic.workers.get(0).unwrap().out.socket().try_clone_to_owned().unwrap();
    while oxherd_os::fdpass::send(&end, b"{\"x\":0}\n", None).is_ok() {}
    drop(end);
    let _client = client(address, 8);
    leave_room_for(1);
    herd.settle();
    enough_room();
    chatty.say(&format!(r#"{{"targetWorker":{id}}}"#));
    let got = herd.until("it comes", |herd| {
        herd.now += 100;
        full.take()
    });
    assert_eq!(got.name(), 8);
}

#[test]
fn at_closing_time_nobody_is_turned_away_for_it() {
    if !in_own_process() {
        return;
    }
    let path = std::env::temp_dir().join(format!("oxherd-engine-{}-fds.sock", std::process::id()));
    let mut herd = Herd::new();
    let mut worker = herd.attach(0);
    let shown = path.display();
    worker
        .ask(&mut herd, &format!(r#""index":0,"data":null,"address":"{shown}","port":-1,"addressType":-1"#));
    herd.order(crate::traffic::Order::Admit(worker.place.instance));
    let clients: Vec<_> = (0..12).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
    leave_room_for(5);
    herd.order(crate::traffic::Order::CloseDoors(super::harness::APP));
    herd.pass(10);
    enough_room();
    let mut served = 0;
    herd.until("all are served", |herd| {
        herd.now += 10;
        herd.settle();
        while let Some(got) = worker.take() {
            served += 1;
            worker.answer(&got, true);
        }
        (served == clients.len()).then_some(())
    });
    herd.order(crate::traffic::Order::CloseListeners(super::harness::APP));
}
