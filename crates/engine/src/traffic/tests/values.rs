//! What only values have: types that are kept from worker to worker, and what no worker may do to another with them.

use oxherd_core::{Event, Serialization};
use oxherd_os::fdpass;

use super::harness::{Herd, Worker, client};
use super::keeper::{MemoryStash, succeed};
use crate::traffic::News;

/// A herd with a worker of each serialisation that it is asked for.
fn herd_of<const N: usize>(all: [Serialization; N]) -> (Herd, [Worker; N]) {
    let mut herd = Herd::new();
    let mut slot = 0;
    let workers = all.map(|serialization| {
        herd.spec.serialization = serialization;
        slot += 1;
        herd.attach(slot)
    });
    (herd, workers)
}

/// A frame of such a value.
fn framed(value: &[u8]) -> Vec<u8> {
    [&(value.len() as u32 + 2).to_be_bytes()[..], b"\xff\x0f", value].concat()
}

/// The frame of an object with these members, which is for all other workers.
fn for_all(members: &[u8], count: u8) -> Vec<u8> {
    framed(&[b"o\"\x0ctargetWorker\"\x03all", members, &[b'{', count + 1]].concat())
}

#[test]
fn values_stay_what_they_are_between_those_who_know_them() {
    use Serialization::{Advanced, Json};
    let (mut herd, [mut sender, mut same, mut other]) = herd_of([Advanced, Advanced, Json]);
    sender.write(&for_all(b"\"\x04whenD\0\0\0\0\0\0\0\0\"\x01m;I\x02Z\x10\x01\0\0\0\0\0\0\0:\x02", 2));
    herd.settle();
    let id = sender.place.instance.worker_id();
    let expected = for_all(
        b"\"\x04whenD\0\0\0\0\0\0\0\0\"\x01m;I\x02Z\x10\x01\0\0\0\0\0\0\0:\x02\"\x0afromWorkerI\x02",
        3,
    );
    assert_eq!(id, 1);
    assert_eq!(same.hear_raw(), expected);
    let line = r#"{"targetWorker":"all","when":"1970-01-01T00:00:00.000Z","m":[[1,"1"]],"fromWorker":1}"#;
    assert_eq!(other.hear_all(), [line]);
    // The other way round there is nothing to lose.
    other.say(r#"{"targetWorker":2,"a":[1,{"b":null}]}"#);
    herd.settle();
    assert_eq!(same.hear_all(), [r#"{"targetWorker":2,"a":[1,{"b":null}],"fromWorker":3}"#]);
    // A sender that is given stays.
    let own = for_all(b"\"\x0afromWorker\"\x02me\"\x01dD\0\0\0\0\0\0\0\0", 2);
    sender.write(&own);
    herd.settle();
    assert_eq!(same.hear_raw(), own);
}

#[test]
fn what_would_kill_a_reader_is_sent_as_json_or_not_at_all() {
    let (mut herd, [mut sender, mut other, mut plain]) =
        herd_of([Serialization::Advanced, Serialization::Advanced, Serialization::Json]);
    sender.write(&for_all(b"\"\x01a0\"\x01aT", 2));
    herd.settle();
    assert_eq!(other.hear_all(), [r#"{"targetWorker":"all","a":true,"fromWorker":1}"#]);
    plain.hear_all();
    let depth = 5000;
    let deep = [&b"\"\x01d"[..], &b"A\x01".repeat(depth), b"0", &b"$\0\x01".repeat(depth)].concat();
    sender.write(&for_all(&deep, 1));
    herd.settle();
    assert!(other.hear_all().is_empty());
    assert_eq!(plain.hear_all().len(), 1);
    let dropped = |news: &News| matches!(news, News::Alert(crate::Alert::MessagesDropped { count: 1, .. }));
    assert!(herd.told.iter().any(dropped));
    assert!(!herd.is_condemned(&sender));
}

#[test]
fn what_is_no_value_is_the_end_of_its_worker() {
    for bytes in [
        &b"\0\0\0\0"[..],
        b"\0\0\0\x03\xff\x10T",
        b"\0\0\0\x02\xff\x0f",
        b"\0\0\0\x03\xff\x0fo",
        b"\xff\xff\xff\xff",
        b"{\"a\":1}\n",
    ] {
        let (mut herd, [mut worker]) = herd_of([Serialization::Advanced]);
        worker.write(bytes);
        worker.say(r#"{"cmd":"NODE_CLUSTER","act":"online","seq":0}"#);
        herd.settle();
        assert!(herd.is_condemned(&worker), "{bytes:?}");
        assert_eq!(herd.told.len(), 1, "what follows does not count");
    }
}

#[test]
fn a_primary_that_takes_over_joins_at_any_byte() {
    let frames = |worker: &Worker| {
        let stats = worker.framed(r#"{"type":"stats","stats":{"requests":5},"text":"\u0142\u00e9"}"#);
        [stats, framed(&[&b"\\\0\x0a\x80\x02"[..], &[0xff; 256]].concat())].concat()
    };
    let count = frames(&herd_of([Serialization::Advanced]).1[0]).len();
    for at in 0..count {
        let stash = MemoryStash::default();
        let mut old = Herd::kept(&stash);
        old.spec.serialization = Serialization::Advanced;
        let (mut worker, address) = old.worker(0);
        let bytes = frames(&worker);
        worker.write(&bytes[..at]);
        old.settle();
        let mut herd = succeed(old, &stash, &[&worker]);
        worker.write(&bytes[at..]);
        worker.say(r#""ready""#);
        herd.settle();
        let fence = herd.until("a fence", |_| worker.take());
        worker.answer(&fence, false);
        worker.say(r#"{"type":"error","error":"x"}"#);
        herd.settle();
        assert!(!herd.is_condemned(&worker), "at {at}");
        assert!(herd.fact(|event| matches!(event, Event::ErrorReported { .. })), "at {at}");
        let _client = client(address, 1);
        herd.settle();
        assert_eq!(worker.take().unwrap().name(), 1);
        worker.write(b"\0\0\0\x01x");
        herd.settle();
        assert!(herd.is_condemned(&worker), "from here on every frame is whole");
    }
}

/// Has `from` send `to` messages whose frames are exactly so long, in one breath.
fn send_exactly(herd: &mut Herd, from: &mut Worker, to: &Worker, lens: &[usize]) {
    let id = to.place.instance.worker_id();
    let line = |count| format!(r#"{{"targetWorker":{id},"fromWorker":9,"text":"{}"}}"#, "x".repeat(count));
    let frame = |len: &usize| {
        let frame = (0..*len).rev().map(|count| from.framed(&line(count))).find(|frame| frame.len() == *len);
        frame.expect("there is such a length")
    };
    let frames: Vec<u8> = lens.iter().flat_map(frame).collect();
    from.write(&frames);
    herd.settle();
}

#[test]
fn no_read_ends_within_the_length_of_a_frame() {
    let cases =
        [(65_532, false), (65_533, true), (65_535, true), (65_536, false), (65_333, true), (65_337, false)];
    for (before, is_held) in cases {
        let (mut herd, [mut deaf, mut chatty]) = herd_of([Serialization::Advanced, Serialization::Advanced]);
        send_exactly(&mut herd, &mut chatty, &deaf, &[30_000]);
        send_exactly(&mut herd, &mut chatty, &deaf, &[before - 30_000]);
        send_exactly(&mut herd, &mut chatty, &deaf, &[200, 300]);
        herd.pass(100);
        let mut buffer = vec![0; 64 << 10];
        let end = deaf.end.as_ref().unwrap();
        let first = fdpass::receive(end, &mut buffer, &mut deaf.fds).unwrap().bytes;
        assert_eq!(first, if is_held { before } else { 64 << 10 }, "{before}");
        deaf.take_for_read(&buffer[..first]);
        herd.pass(100);
        assert_eq!(deaf.hear_all().len(), 4, "{before}");
    }
}
