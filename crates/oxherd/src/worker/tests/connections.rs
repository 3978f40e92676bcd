//! Listening and connections.

use std::io;
use std::os::fd::AsFd;
use std::pin::pin;

use oxherd_wire::load as layout;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const KEY: &str = "127.0.0.1:4000:4:undefined:0";

async fn listening(worker: &Worker, primary: &mut Primary) -> crate::Listener {
    let (listener, ()) = tokio::join!(worker.listen("127.0.0.1:4000"), primary.grant(KEY, 4000));
    let listener = listener.unwrap();
    assert!(primary.line().await.contains(r#""act":"listening","index":0"#));
    listener
}

fn answer(line: &str) -> (u64, bool) {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    (value["ack"].as_u64().unwrap(), value["accepted"].as_bool().unwrap())
}

const ACK: &str = r#"{"cmd":"NODE_HANDLE_ACK"}"#;

#[tokio::test]
async fn a_connection_is_answered_when_it_is_accepted() {
    let (worker, mut primary) = start().await;
    let listener = listening(&worker, &mut primary).await;
    assert_eq!(listener.local_addr().unwrap(), "127.0.0.1:4000".parse().unwrap());

    let (mut client, server) = connection();
    primary.newconn(KEY, 11, &server).await;
    assert_eq!(primary.line().await, ACK);
    assert!(!primary.hears(), "nobody has accepted it");
    drop(server);

    let (mut stream, peer) = primary.meanwhile(listener.accept()).await.unwrap();
    assert_eq!(answer(&primary.line().await), (11, true));
    assert_eq!(peer, client.local_addr().unwrap());
    stream.write_all(b"served").await.unwrap();
    drop(stream);
    let mut served = String::new();
    io::Read::read_to_string(&mut client, &mut served).unwrap();
    assert_eq!(served, "served");
}

#[tokio::test]
async fn a_connection_that_nobody_accepts_is_given_back() {
    let (worker, mut primary) = start().await;
    let listener = listening(&worker, &mut primary).await;
    let (_client, server) = connection();
    primary.newconn(KEY, 11, &server).await;
    assert_eq!(primary.line().await, ACK);
    assert_eq!(answer(&primary.line().await), (11, false), "another worker may be idle");
    primary.newconn(KEY, 12, &server).await;
    primary.meanwhile(listener.accept()).await.unwrap();
    assert_eq!(primary.line().await, ACK);
    assert_eq!(answer(&primary.line().await), (12, true), "the listener is as it was");
}

#[tokio::test]
async fn both_answers_go_in_one_write_when_somebody_waits() {
    let (worker, mut primary) = start().await;
    let listener = listening(&worker, &mut primary).await;
    let (_client, server) = connection();
    let accepting = tokio::spawn(async move { listener.accept().await.map(|accepted| (accepted, listener)) });
    settle().await;
    primary.newconn(KEY, 1, &server).await;
    primary.read().await;
    let text = String::from_utf8(std::mem::take(&mut primary.bytes)).unwrap();
    assert_eq!(text.matches('\n').count(), 2, "{text}");
    accepting.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_page_counts_what_was_taken_and_closed() {
    let (worker, mut primary) = start().await;
    let listener = listening(&worker, &mut primary).await;
    let page = &worker.channel().page;
    let figures = || [layout::WORD_SEEN, layout::WORD_CLOSED, layout::WORD_OPEN].map(|word| page.get(word));
    let (_client, server) = connection();
    for seq in 0..2 {
        primary.newconn(KEY, seq, &server).await;
    }
    settle().await;
    assert_eq!(figures(), [0, 0, 0]);
    let (tracked, _) = listener.accept_tracked().await.unwrap();
    assert_eq!(figures(), [1, 0, 1]);
    let plain = listener.accept().await.unwrap();
    assert_eq!(figures(), [2, 1, 1], "a plain one counts as closed");
    drop(plain);
    drop(tracked);
    assert_eq!(figures(), [2, 2, 0]);
}

#[tokio::test]
async fn a_waiting_connection_goes_elsewhere_when_the_listener_is_dropped() {
    let (worker, mut primary) = start().await;
    let listener = listening(&worker, &mut primary).await;
    let (_client, server) = connection();
    primary.newconn(KEY, 4, &server).await;
    assert_eq!(primary.line().await, ACK);
    drop(listener);
    assert_eq!(answer(&primary.line().await), (4, false));
    assert!(primary.line().await.contains(r#""act":"close","key":"127.0.0.1:4000:4:undefined:0""#));
    primary.newconn(KEY, 5, &server).await;
    assert_eq!(primary.line().await, ACK);
    assert_eq!(answer(&primary.line().await), (5, false));
    // The address is free again.
    listening(&worker, &mut primary).await;
}

#[tokio::test]
async fn a_connection_without_its_descriptor_is_not_answered() {
    let (worker, mut primary) = start().await;
    let _listener = listening(&worker, &mut primary).await;
    let newconn = format!(
        r#"{{"cmd":"NODE_HANDLE","type":"net.Native","msg":{{"cmd":"NODE_CLUSTER","act":"newconn","key":"{KEY}","seq":4}}}}"#
    );
    primary.say(&newconn).await;
    assert_eq!(primary.line().await, r#"{"cmd":"NODE_HANDLE_NACK"}"#);
    settle().await;
    assert!(!primary.hears());
}

#[tokio::test]
async fn a_listener_nobody_waits_for_any_more_is_closed() {
    let (worker, mut primary) = start().await;
    {
        let mut asking = pin!(worker.listen("127.0.0.1:4000"));
        tokio::select! { biased; _ = &mut asking => panic!("no reply yet"), () = settle() => {} }
    }
    primary.grant(KEY, 4000).await;
    assert!(primary.line().await.contains(r#""act":"close""#));
    listening(&worker, &mut primary).await;
}

#[tokio::test]
async fn a_shared_listener_is_accepted_from_directly() {
    let (worker, mut primary) = start().await;
    let options = oxherd_os::socket::ListenOptions { listen_now: false, ..Default::default() };
    let socket = oxherd_os::socket::listen_tcp("127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let asking = worker.listen("127.0.0.1:0");
    let granting = async {
        let ack = number(&primary.line().await, "seq");
        let reply = format!(
            r#"{{"cmd":"NODE_HANDLE","type":"net.Native","msg":{{"cmd":"NODE_CLUSTER","errno":0,"key":"k","ack":{ack},"data":null,"seq":0}}}}"#
        );
        primary.hand(&reply, &socket).await;
        assert_eq!(primary.line().await, ACK);
    };
    let (listener, ()) = tokio::join!(asking, granting);
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    assert_ne!(address.port(), 0);
    let told = primary.line().await;
    assert_eq!(number(&told, "port"), u64::from(address.port()), "{told}");
    let client = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut accepted, peer) = listener.accept_tracked().await.unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    assert_eq!(worker.channel().open(), 1);
    drop(client);
    assert_eq!(accepted.read(&mut [0]).await.unwrap(), 0);
    drop(accepted);
    assert!(!primary.hears(), "the primary has no part in it");

    // What had come to the socket of another that left is handed over.
    let (_client, server) = connection();
    let mut accepting = pin!(listener.accept_tracked());
    tokio::select! { biased; _ = &mut accepting => panic!("nothing came"), () = settle() => {} }
    primary.newconn("k", 8, &server).await;
    accepting.await.unwrap();
    assert_eq!((primary.line().await, answer(&primary.line().await)), (ACK.into(), (8, true)));
    let words = [layout::WORD_SEEN, layout::WORD_CLOSED].map(|word| worker.channel().page.get(word));
    assert_eq!(words, [1, 1]);

    // Once the worker leaves, it takes no more from there: others do.
    primary.say(r#"{"cmd":"NODE_CLUSTER","act":"disconnect","seq":3}"#).await;
    assert!(primary.line().await.contains(r#""act":"close","key":"k""#));
    let _client = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut accepting = pin!(listener.accept());
    tokio::select! { biased; _ = &mut accepting => panic!("accepted"), () = settle() => {} }
}

#[tokio::test]
async fn unix_and_udp_sockets() {
    let (worker, mut primary) = start().await;
    let asking = worker.listen_unix("/tmp/x.sock");
    let granting = async {
        let query = primary.line().await;
        assert!(query.contains(r#""address":"/tmp/x.sock","port":-1,"addressType":-1"#), "{query}");
        primary
            .say(r#"{"cmd":"NODE_CLUSTER","errno":null,"key":"/tmp/x.sock","ack":1,"data":null,"seq":0}"#)
            .await;
        assert!(primary.line().await.contains(r#""act":"listening""#));
    };
    let (listener, ()) = tokio::join!(asking, granting);
    let listener = listener.unwrap();
    assert_eq!(listener.path(), std::path::Path::new("/tmp/x.sock"));
    let (mut client, server) = std::os::unix::net::UnixStream::pair().unwrap();
    primary.newconn("/tmp/x.sock", 2, &server).await;
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"x").await.unwrap();
    io::Read::read_exact(&mut client, &mut [0]).unwrap();
    assert_eq!((primary.line().await, answer(&primary.line().await)), (ACK.into(), (2, true)));

    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let asking = worker.bind_udp("127.0.0.1:0");
    let granting = async {
        let query = primary.line().await;
        assert!(query.contains(r#""addressType":"udp4","fd":-1,"flags":0"#), "{query}");
        let ack = number(&query, "seq");
        let reply = format!(
            r#"{{"cmd":"NODE_HANDLE","type":"dgram.Native","msg":{{"cmd":"NODE_CLUSTER","errno":0,"key":"u","ack":{ack},"data":null,"seq":0}}}}"#
        );
        primary.hand(&reply, socket.as_fd()).await;
    };
    let (bound, ()) = tokio::join!(asking, granting);
    assert_eq!(bound.unwrap().local_addr().unwrap(), socket.local_addr().unwrap());
}

#[tokio::test]
async fn errors_name_the_address_the_cause_and_the_way_out() {
    let (worker, mut primary) = start().await;
    let refused = async |primary: &mut Primary, errno: i32| {
        let ack = number(&primary.line().await, "seq");
        let reply =
            format!(r#"{{"cmd":"NODE_CLUSTER","errno":{errno},"key":"k","ack":{ack},"data":null,"seq":0}}"#);
        primary.say(&reply).await;
    };
    let (denied, ()) = tokio::join!(worker.listen("0.0.0.0:80"), refused(&mut primary, -13));
    let denied = denied.unwrap_err();
    assert_eq!(
        denied.to_string(),
        "cannot listen on 0.0.0.0:80: permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)"
    );
    let (in_use, ()) = tokio::join!(worker.listen("[::]:3000"), refused(&mut primary, -98));
    let in_use = in_use.unwrap_err();
    assert_eq!(in_use.to_string(), "cannot listen on [::]:3000: address in use (`ss -lntup` shows by whom)");
    assert_eq!(io::Error::from(in_use).kind(), io::ErrorKind::AddrInUse);
    let (_, ()) = tokio::join!(worker.listen("[::]:3000"), refused(&mut primary, -98));

    let _listener = listening(&worker, &mut primary).await;
    let twice = worker.listen("127.0.0.1:4000").await.unwrap_err();
    assert_eq!(
        twice.to_string(),
        "cannot listen on 127.0.0.1:4000: this worker listens there already (use that listener, or drop it first)"
    );
    assert_eq!(twice.kind(), io::ErrorKind::AddrInUse);
    let nowhere = worker.listen("no such name").await.unwrap_err();
    assert!(nowhere.to_string().starts_with("cannot listen on this address: "), "{nowhere}");
}

#[tokio::test]
async fn port_0_may_be_had_more_than_once() {
    let (worker, mut primary) = start().await;
    let (first, ()) = tokio::join!(worker.listen("127.0.0.1:0"), primary.grant("a", 5001));
    assert!(primary.line().await.contains(r#""index":0,"data":null,"address":"127.0.0.1","port":5001"#));
    let (second, ()) = tokio::join!(worker.listen("127.0.0.1:0"), primary.grant("b", 5002));
    assert!(primary.line().await.contains(r#""index":1,"data":null,"address":"127.0.0.1","port":5002"#));
    assert_eq!(first.unwrap().local_addr().unwrap().port(), 5001);
    assert_eq!(second.unwrap().local_addr().unwrap().port(), 5002);
}

#[test]
fn what_is_waited_for_can_be_spawned() {
    fn is_send<T: Send>(_: T) {}
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (worker, mut primary) = start().await;
        is_send(worker.listen("127.0.0.1:0"));
        is_send(crate::listen(("127.0.0.1", 0)));
        is_send(crate::bind_udp("127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap()));
        is_send(worker.messages().recv());
        is_send(worker.disconnect());
        is_send((worker.shutdown(), worker.drained(), worker.flush()));
        let listener = listening(&worker, &mut primary).await;
        is_send((listener.accept(), listener.accept_tracked()));
    });
}

#[test]
fn the_next_runtime_takes_over_where_the_last_one_ended() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (here, there) = pair();
    let first = runtime();
    let worker = first.block_on(async { worker_on(there) });
    let (mut primary, listener) = first.block_on(async {
        let mut primary = Primary::on(here);
        primary.line().await;
        let listener = listening(&worker, &mut primary).await;
        // Half a line is read by the first runtime, the rest by the second.
        let socket = primary.socket.as_fd();
        fdpass::send(socket, b"{\"type\":", None).unwrap();
        settle().await;
        (primary.socket.into_std().unwrap(), listener)
    });
    drop(first);
    let second = runtime();
    second.block_on(async {
        io::Write::write_all(&mut primary, b"\"late\"}\n").unwrap();
        let mut primary = Primary::on(primary.into());
        let message = primary.meanwhile(worker.messages().recv()).await.unwrap();
        assert_eq!(message.raw(), r#"{"type":"late"}"#);
        let (_client, server) = connection();
        primary.newconn(KEY, 9, &server).await;
        primary.meanwhile(listener.accept()).await.unwrap();
        assert_eq!((primary.line().await, answer(&primary.line().await)), (ACK.into(), (9, true)));
    });
}

#[test]
fn who_waits_in_another_runtime_is_served_when_the_tasks_runtime_ends() {
    let (here, there) = pair();
    let first = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let worker = first.block_on(async { worker_on(there) });
    let second = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut messages = worker.messages();
    let waiting = second.spawn(async move { messages.recv().await.map(|message| message.raw().to_owned()) });
    drop(first);
    second.block_on(async {
        let mut primary = Primary::on(here);
        primary.say("\"still there\"").await;
        assert_eq!(primary.meanwhile(waiting).await.unwrap().as_deref(), Some("\"still there\""));
    });
}
