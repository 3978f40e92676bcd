//! When and how a worker leaves.

use std::time::Instant;

use super::*;
use crate::SendError;

const DISCONNECT: &str = r#"{"cmd":"NODE_CLUSTER","act":"disconnect","seq":3}"#;
const KEY: &str = "k";

async fn listening(worker: &Worker, primary: &mut Primary) -> crate::Listener {
    let (listener, ()) = tokio::join!(worker.listen("127.0.0.1:4000"), primary.grant(KEY, 4000));
    primary.line().await;
    listener.unwrap()
}

#[tokio::test]
async fn told_to_leave_it_closes_its_servers_and_refuses_what_waits() {
    let (worker, mut primary) = start().await;
    let listener = listening(&worker, &mut primary).await;
    let shutdown = worker.shutdown();
    assert!(!worker.is_shutting_down());
    let (_client, server) = connection();
    primary.newconn(KEY, 4, &server).await;
    primary.say(DISCONNECT).await;
    primary.say(DISCONNECT).await;
    primary.meanwhile(shutdown).await;
    assert!(worker.is_shutting_down() && worker.is_connected());
    primary.meanwhile(worker.shutdown()).await;
    assert_eq!(primary.line().await, r#"{"cmd":"NODE_HANDLE_ACK"}"#);
    assert!(primary.line().await.contains(r#""ack":4,"accepted":false"#));
    assert!(primary.line().await.contains(r#""act":"close","key":"k""#));
    settle().await;
    assert!(!primary.hears());
    primary.newconn(KEY, 5, &server).await;
    assert_eq!(primary.line().await, r#"{"cmd":"NODE_HANDLE_ACK"}"#);
    assert!(primary.line().await.contains(r#""ack":5,"accepted":false"#));
    tokio::select! { biased; _ = listener.accept() => panic!("accepted"), () = settle() => {} }
    let error = worker.listen("127.0.0.1:1").await.unwrap_err();
    assert_eq!(error.to_string(), "cannot listen on 127.0.0.1:1: this worker was told to leave");
    drop(listener);
    worker.send(&"the last word").unwrap();
    assert_eq!(primary.line().await, "\"the last word\"");
}

#[tokio::test]
async fn both_forms_of_the_message_tell_it_to_leave() {
    for text in [r#"{"type":"shutdown"}"#, r#""shutdown""#] {
        let (worker, mut primary) = start().await;
        primary.say(r#"{"type":"x","why":"shutdown"}"#).await;
        primary.say(text).await;
        primary.meanwhile(worker.shutdown()).await;
        let mut messages = worker.messages();
        assert_eq!(messages.recv().await.unwrap().kind().as_deref(), Some("x"));
        assert_eq!(messages.recv().await.unwrap().raw(), text, "the program hears it too");
    }
}

#[tokio::test(start_paused = true)]
async fn drained_is_when_the_connections_have_ended_or_had_their_time() {
    let (worker, mut primary) = start().await;
    let listener = listening(&worker, &mut primary).await;
    let (_client, server) = connection();
    primary.newconn(KEY, 4, &server).await;
    let (connection, _) = listener.accept_tracked().await.unwrap();
    let drained = tokio::spawn(worker.drained());
    settle().await;
    assert!(!drained.is_finished());
    primary.say(DISCONNECT).await;
    worker.shutdown().await;
    settle().await;
    assert!(!drained.is_finished(), "a connection is open");
    drop(connection);
    drained.await.unwrap();
    worker.drained().await;
}

#[tokio::test]
async fn drained_does_not_wait_for_ever() {
    let (worker, mut primary) = start().await;
    let listener = listening(&worker, &mut primary).await;
    let (_client, server) = connection();
    primary.newconn(KEY, 4, &server).await;
    let _connection = listener.accept_tracked().await.unwrap();
    let linger = Duration::from_millis(50);
    worker.set_linger(linger);
    let began = Instant::now();
    primary.say(DISCONNECT).await;
    primary.meanwhile(worker.drained()).await;
    assert!(began.elapsed() >= linger);
}

#[tokio::test]
async fn it_leaves_by_its_own_will_once_that_is_acknowledged() {
    let (worker, mut primary) = start().await;
    let _listener = listening(&worker, &mut primary).await;
    worker.send(&"bye").unwrap();
    let acknowledging = async {
        assert_eq!(primary.line().await, "\"bye\"");
        assert!(primary.line().await.contains(r#""act":"close","key":"k""#));
        let announced = primary.line().await;
        assert!(announced.contains(r#""act":"exitedAfterDisconnect""#), "{announced}");
        settle().await;
        let ack = number(&announced, "seq");
        primary.say(&format!(r#"{{"cmd":"NODE_CLUSTER","ack":{ack},"seq":1}}"#)).await;
        assert_eq!(primary.next().await, None);
    };
    let (left, ()) = tokio::join!(worker.disconnect(), acknowledging);
    left.unwrap();
    assert!(!worker.is_connected());
    worker.shutdown().await;
    let error = worker.send(&1).unwrap_err();
    assert_eq!(error.to_string(), "cannot send: the primary is gone (this worker has disconnected)");
    worker.disconnect().await.expect("what is done need not be done again");
}

#[tokio::test]
async fn only_the_primary_says_when_to_leave() {
    let (worker, mut primary) = start().await;
    let mut messages = worker.messages();
    primary.say(r#"{"targetWorker":"all","type":"shutdown","data":"a topic","fromWorker":2}"#).await;
    let message = primary.meanwhile(messages.recv()).await.unwrap();
    assert_eq!((message.kind().as_deref(), message.from_worker()), (Some("shutdown"), Some(2)));
    assert!(!worker.is_shutting_down());
    primary.say(r#"{"type":"shutdown"}"#).await;
    primary.meanwhile(worker.shutdown()).await;
}

#[tokio::test]
async fn when_the_primary_is_gone_everybody_is_told() {
    let (worker, mut primary) = start().await;
    let listener = listening(&worker, &mut primary).await;
    let mut messages = worker.messages();
    primary.say("\"the last\"").await;
    let asking = tokio::spawn({
        let worker = worker.clone();
        async move { worker.listen("127.0.0.1:1").await }
    });
    let leaving = tokio::spawn({
        let worker = worker.clone();
        async move { (worker.flush().await, worker.drained().await) }
    });
    settle().await;
    drop(primary);
    worker.shutdown().await;
    assert!(!worker.is_connected());
    assert_eq!(messages.recv().await.unwrap().raw(), "\"the last\"");
    assert!(messages.recv().await.is_none());
    let error = asking.await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot listen on 127.0.0.1:1: the primary is gone (its channel has ended)"
    );
    let (flushed, ()) = leaving.await.unwrap();
    flushed.unwrap();
    let error = worker.send(&1).unwrap_err();
    assert!(matches!(error, SendError::Gone { .. }), "{error}");
    assert!(worker.flush().await.is_err());
    assert!(worker.listen("127.0.0.1:0").await.is_err());
    let accepting = std::pin::pin!(listener.accept());
    tokio::select! { biased; _ = accepting => panic!("accepted"), () = settle() => {} }
}

#[tokio::test]
async fn a_primary_that_breaks_the_protocol_is_as_good_as_gone() {
    for nonsense in ["{", r#"{"cmd":"NODE_CLUSTER","ack":"x"}"#] {
        let (worker, mut primary) = start().await;
        primary.say(nonsense).await;
        primary.meanwhile(worker.shutdown()).await;
        let error = worker.send(&1).unwrap_err().to_string();
        assert!(error.contains("it broke the protocol: "), "{error}");
        assert_eq!(primary.next().await, None);
    }
}

#[tokio::test]
async fn nothing_of_it_is_left_when_its_handles_are_dropped() {
    let (here, there) = pair();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let worker = worker_on(there);
            let asking = std::pin::pin!(worker.listen("127.0.0.1:1"));
            tokio::select! { biased; _ = asking => panic!("no reply"), () = settle() => {} }
        });
    })
    .join()
    .unwrap();
    let mut primary = Primary::on(here);
    primary.line().await;
    primary.line().await;
    assert_eq!(primary.next().await, None);
}

#[test]
fn a_runtime_without_timers_is_told_of_once() {
    let (_here, there) = pair();
    let worker = worker_on(there);
    assert!(tokio::runtime::Handle::try_current().is_err());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    assert!(runtime.block_on(async { worker.messages().recv().await }).is_none());
    let error = worker.send(&1).unwrap_err().to_string();
    assert!(error.contains("enable_all"), "{error}");
}
