//! Connections are handed over, answered, refused; nobody gets more than there is room for.

use super::harness::{Herd, Worker, client, clients};

#[test]
fn a_worker_gets_two_and_the_rest_wait_in_the_kernel() {
    let mut herd = Herd::new();
    let (mut worker, address) = herd.worker(0);
    let _clients = clients(address, 0..5);
    herd.settle();
    let (first, second) = (worker.take().unwrap(), worker.take().unwrap());
    assert_eq!((first.name(), second.name()), (0, 1));
    herd.settle();
    assert!(worker.take().is_none(), "an acknowledgement is no answer");
    worker.answer(&second, true);
    herd.settle();
    assert_eq!(worker.take().unwrap().name(), 2);
    assert!(worker.take().is_none());
    assert_eq!(worker.counters.handed_over(), 1);
}

#[test]
fn each_worker_has_the_room_that_its_own_generation_gives() {
    let mut herd = Herd::new();
    let (mut old, address) = herd.worker(0);
    (herd.spec.handoff_window, herd.spec.max_message) = (4, 200);
    let (mut new, _) = herd.worker(1);
    let _clients = clients(address, 0..8);
    herd.settle();
    let count = |worker: &mut Worker| std::iter::from_fn(|| worker.take()).count();
    assert_eq!((count(&mut old), count(&mut new)), (2, 4));
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(300));
    [&mut old, &mut new].into_iter().for_each(|worker| worker.say(&long));
    herd.settle();
    assert_eq!([herd.is_condemned(&old), herd.is_condemned(&new)], [false, true]);
}

#[test]
fn nobody_accepts_while_nobody_is_admitted() {
    let mut herd = Herd::new();
    let mut worker = herd.attach(0);
    let address = worker.listen(&mut herd, 0);
    let _clients = clients(address, 0..3);
    let turns = herd.settle();
    assert!(turns < 10);
    assert!(worker.take().is_none());
    herd.order(crate::traffic::Order::Admit(worker.place.instance));
    assert_eq!(worker.take().unwrap().name(), 0);
}

#[test]
fn room_is_shared_by_all_listeners_of_a_worker() {
    let mut herd = Herd::new();
    let (mut worker, one) = herd.worker(0);
    let other = worker.listen(&mut herd, 1);
    let _clients = clients(one, 0..2);
    herd.settle();
    let (first, second) = (worker.take().unwrap(), worker.take().unwrap());
    let _waits = client(other, 9);
    herd.settle();
    assert!(worker.take().is_none(), "there is no room");
    worker.answer(&first, true);
    worker.answer(&second, true);
    herd.settle();
    assert_eq!(worker.take().expect("the other listener's client gets the room").name(), 9);
}

#[test]
fn a_busy_listener_does_not_starve_another() {
    let mut herd = Herd::new();
    let (mut worker, busy) = herd.worker(0);
    let other = worker.listen(&mut herd, 1);
    let _busy = clients(busy, 0..50);
    herd.settle();
    let _waits = client(other, 99);
    herd.settle();
    for served in 0..10 {
        let got = worker.take().unwrap();
        if got.name() == 99 {
            return;
        }
        worker.answer(&got, true);
        herd.settle();
        assert!(served < 9, "99 was passed over all the time");
    }
}

#[test]
fn refused_by_one_served_by_another() {
    let mut herd = Herd::new();
    let (mut one, address) = herd.worker(0);
    let (mut other, _) = herd.worker(1);
    let _clients = clients(address, 0..1);
    herd.settle();
    let got = one.take().unwrap();
    one.answer(&got, false);
    herd.settle();
    assert!(one.take().is_none());
    assert_eq!(other.take().unwrap().name(), 0);
}

#[test]
fn without_its_descriptor_it_goes_to_another() {
    let mut herd = Herd::new();
    let (mut one, address) = herd.worker(0);
    let (mut other, _) = herd.worker(1);
    let _clients = clients(address, 0..1);
    herd.settle();
    assert!(one.hear().unwrap().contains("newconn"));
    one.fds.clear();
    one.say(r#"{"cmd":"NODE_HANDLE_NACK"}"#);
    herd.settle();
    let got = other.take().unwrap();
    assert_eq!(got.name(), 0);
    other.answer(&got, true);
    herd.settle();
    assert_eq!((one.counters.handed_over(), other.counters.handed_over()), (0, 1));
}

#[test]
fn refused_by_all_it_rests() {
    let mut herd = Herd::new();
    let (mut one, address) = herd.worker(0);
    let (mut other, _) = herd.worker(1);
    let _clients = clients(address, 7..8);
    let mut refusals = 0;
    let mut turns = 0;
    loop {
        turns += herd.settle();
        let Some((worker, got)) =
            [&mut one, &mut other].into_iter().find_map(|it| it.take().map(|got| (it, got)))
        else {
            break;
        };
        worker.answer(&got, false);
        refusals += 1;
        assert!(refusals < 10, "it spins");
    }
    assert!((2..=3).contains(&refusals), "{refusals}");
    assert!(turns < 30);
    herd.pass(10);
    let got = one.take().or_else(|| other.take()).expect("it is offered again after a rest");
    assert_eq!(got.name(), 7);
}

#[test]
fn surplus_and_unknown_answers_change_nothing() {
    let mut herd = Herd::new();
    let (mut worker, address) = herd.worker(0);
    let _clients = clients(address, 0..4);
    herd.settle();
    let (first, second) = (worker.take().unwrap(), worker.take().unwrap());
    for _ in 0..3 {
        worker.answer(&first, true);
        worker.say(r#"{"cmd":"NODE_HANDLE_ACK"}"#);
        worker.say(r#"{"cmd":"NODE_CLUSTER","ack":4711,"accepted":false,"seq":1}"#);
    }
    herd.settle();
    let mut names = vec![first.name(), second.name()];
    while let Some(got) = worker.take() {
        names.push(got.name());
        worker.answer(&got, true);
        herd.settle();
    }
    assert!(!herd.is_condemned(&worker));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, [0, 1, 2, 3]);
}
