//! Booted workers that are held before they listen.

use oxherd_core::{Event, Slot};
use oxherd_os::ExitStatus;

use super::borrowers::{Pasture, SERVE};
use super::harness::Herd;
use crate::traffic::Order;

const SIGTERM: i32 = 15;

fn is_parked(event: &Event) -> bool {
    matches!(event, Event::Parked { .. })
}

#[test]
fn a_standby_takes_the_slot_and_the_queue_that_it_is_given() {
    let mut pasture = Pasture::new();
    let mut worker = pasture.worker(3);
    let standby = pasture.standby(100, SERVE);
    pasture.until_fact("it parks", is_parked);
    pasture.stop(&worker);
    let mut client = super::borrowers::Client::of(pasture.address);
    pasture.kill(&mut worker);
    assert_eq!(pasture.herd.count_facts(|event| matches!(event, Event::Listening { .. })), 1);
    pasture.herd.order(Order::Unpark(standby.place.instance, Slot(3)));
    pasture.until_listening(&standby);
    pasture.herd.order(Order::Admit(standby.place.instance));
    assert_eq!(pasture.answer(&mut client), standby.child.pid);
    assert_eq!(pasture.herd.count_facts(is_parked), 1);
}

#[test]
fn one_that_is_given_its_slot_early_never_parks() {
    let mut pasture = Pasture::new();
    let standby = pasture.standby(100, SERVE);
    pasture.herd.order(Order::Unpark(standby.place.instance, Slot(0)));
    pasture.until_listening(&standby);
    assert!(!pasture.herd.fact(is_parked));
}

#[test]
fn a_parked_one_ends_when_it_is_told_to() {
    let mut pasture = Pasture::new();
    let mut standby = pasture.standby(100, SERVE);
    pasture.until_fact("it parks", is_parked);
    standby.child.signal(SIGTERM).unwrap();
    pasture.herd.order(Order::Interrupt(standby.place.instance));
    pasture.bury(&mut standby);
    let exit = standby.child.exit().unwrap();
    assert!(matches!(exit, ExitStatus::Signal { signal: SIGTERM, .. }), "{exit:?}");
}

#[test]
fn a_parked_one_may_be_killed_or_fork() {
    let mut pasture = Pasture::new();
    let forking = "
threading.Thread(target=lambda: [os.fork() or time.sleep(60) for _ in range(3)], daemon=True).start()
listener()";
    for script in [SERVE, forking] {
        let mut standby = pasture.standby(100, script);
        pasture.until_fact("it parks", is_parked);
        let label = pasture.herd.traffic.borrowers.by_instance(standby.place.instance).unwrap().label.clone();
        pasture.kill(&mut standby);
        drop(oxherd_os::host::kill_labelled(&label));
        assert_eq!(pasture.herd.traffic.borrowers.iter().count(), 0);
        pasture.herd.told.clear();
    }
}

#[test]
fn a_query_of_a_worker_with_a_channel_is_held_likewise() {
    let mut herd = Herd::new();
    let mut standby = herd.attach_parked(7);
    let instance = standby.place.instance;
    standby.query(r#""index":0,"data":null,"address":"127.0.0.1","port":0,"addressType":4"#);
    herd.settle();
    assert!(herd.fact(|event| *event == Event::Parked { instance }));
    assert!(standby.hear_all().iter().all(|line| !line.contains("sockname")));
    herd.order(Order::Unpark(instance, Slot(0)));
    assert!(standby.hear_all().iter().any(|line| line.contains("sockname")));
    let number = herd.traffic.workers.find(instance).unwrap();
    assert_eq!(herd.traffic.workers.get(number).unwrap().place.slot, Slot(0));
}
