//! Messages from worker to worker.

use super::harness::Herd;

#[test]
fn by_id_by_pid_and_to_all_others() {
    let mut herd = Herd::new();
    let mut workers: Vec<_> = (0..3).map(|slot| herd.attach(slot)).collect();
    for (target, receivers) in [("2", &[1][..]), ("16777219", &[2]), ("\"all\"", &[1, 2]), ("77", &[])] {
        workers[0].say(&format!(r#"{{"targetWorker":{target},"data":"\ud800"}}"#));
        herd.settle();
        for (at, worker) in workers.iter_mut().enumerate() {
            let expected = format!(r#"{{"targetWorker":{target},"data":"\ud800","fromWorker":1}}"#);
            let expected: Vec<_> = receivers.contains(&at).then_some(expected).into_iter().collect();
            assert_eq!(worker.hear_all(), expected, "{target} at {at}");
        }
    }
}

#[test]
fn a_sender_that_is_given_stays() {
    let mut herd = Herd::new();
    let (mut one, mut other) = (herd.attach(0), herd.attach(1));
    one.say(r#"{"targetWorker":2,"fromWorker":"me"}"#);
    herd.settle();
    assert_eq!(other.hear_all(), [r#"{"targetWorker":2,"fromWorker":"me"}"#]);
}

#[test]
fn figures_are_kept_and_cannot_overflow() {
    let mut herd = Herd::new();
    let mut worker = herd.attach(0);
    worker.say(r#"{"type":"stats","stats":{"connections":3,"requests":18446744073709551615}}"#);
    worker.say(r#"{"type":"request"}"#);
    worker.say(r#"{"type":"metrics","data":{"errors":4,"memory":4096}}"#);
    worker.say(r#"{"type":"error","error":"x"}"#);
    herd.settle();
    let counters = &worker.counters;
    assert!(counters.requests().get().unwrap() >= u64::MAX - 1);
    assert_eq!((counters.connections().get(), counters.errors().get()), (Some(3), Some(4)));
    assert_eq!((counters.error_reports().get(), counters.memory().get()), (Some(1), Some(4096)));
}
