//! A primary written with the library, whose workers are a Node program: `sdk_primary NODE SCRIPT`. It asks for
//! everything that a primary can, and prints what came of it as lines of JSON.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use oxherd::{Attachment, Cluster, Event, Events, Message, WorkerHandle, Workers};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<ExitCode> {
    let [node, script] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "NODE SCRIPT")?;
    let mut builder = Cluster::builder()
        .program(node)
        .args([script])
        .workers(Workers::None)
        .restart_delay(Duration::ZERO)
        .min_uptime(Duration::ZERO)
        .console(false);
    let mut events = builder.events();
    let cluster = builder.primary()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(play(&cluster, &mut events))
}

async fn play(cluster: &Cluster, events: &mut Events) -> Outcome<ExitCode> {
    let one = cluster.fork_with([("ROLE", "one")]).await?;
    let address = listening(events, &one).await?;
    tell(&json!({"listening": one.id(), "slot": one.slot(), "is_connected": one.is_connected()}));
    tell(&json!({"served": get(address)?}));
    messages(events, &one).await?;
    sockets(events, &one).await?;

    let two = cluster.fork_with([("ROLE", "two")]).await?;
    listening(events, &two).await?;
    tell(&json!({"fork": two.id(), "slot": two.slot(), "workers": cluster.workers().len()}));

    one.disconnect()?;
    left(events, &one).await?;
    tell(&json!({"served": get(address)?}));
    two.kill()?;
    left(events, &two).await?;
    let three = ready(events).await?;
    tell(&json!({"respawn": three.id(), "served": get(address)?}));
    three.send(&json!({"do": "leave"}))?;
    left(events, &three).await?;
    // It has closed its server, and nobody else had it: the next one opens another.
    let (four, address) = listens(events).await?;
    cluster.reload().await?;
    let generations: Vec<u32> = cluster.workers().iter().map(WorkerHandle::generation).collect();
    let by = get(address)?["worker"].as_u64().and_then(|id| cluster.worker(id));
    let by = by.map(|worker| worker.generation());
    tell(&json!({"reload": generations, "is_dead": four.is_dead(), "served_by_generation": by}));
    let sent = cluster.broadcast(&json!({"do": "echo", "value": "to all"}))?;
    let mut answered = [message(events).await?.0.slot(), message(events).await?.0.slot()];
    answered.sort_unstable();
    tell(&json!({"broadcast": sent, "answered": answered}));
    let code = cluster.shutdown().await;
    tell(&json!({"done": true}));
    Ok(code)
}

async fn messages(events: &mut Events, worker: &WorkerHandle) -> Outcome<()> {
    let value = json!({"text": "é\u{2028}\u{1f600}", "n": [1, null, true]});
    worker.send(&json!({"do": "echo", "value": value}))?;
    let (from, answer) = message(events).await?;
    tell(&json!({"from": from.id(), "message": answer.parse::<Value>()?}));
    Ok(())
}

async fn sockets(events: &mut Events, worker: &WorkerHandle) -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    worker.send_with(&json!({"do": "take"}), listener.accept()?.0)?;
    let mut said = String::new();
    client.read_to_string(&mut said)?;
    tell(&json!({"taken": said}));

    worker.send(&json!({"do": "give"}))?;
    let (_, mut message) = message(events).await?;
    let Some(Attachment::TcpListener(given)) = message.take_attachment() else {
        return Err(format!("no listener came with {message:?}").into());
    };
    TcpStream::connect(given.local_addr()?)?;
    tell(&json!({"given": message.parse::<Value>()?["given"], "is_open": true}));
    Ok(())
}

async fn next<T>(events: &mut Events, what: &str, mut find: impl FnMut(Event) -> Option<T>) -> Outcome<T> {
    loop {
        let event = events.recv().await.ok_or_else(|| format!("the cluster has ended before {what}"))?;
        if let Some(found) = find(event) {
            return Ok(found);
        }
    }
}

async fn listening(events: &mut Events, of: &WorkerHandle) -> Outcome<SocketAddr> {
    let (worker, address) = listens(events).await?;
    if worker == *of { Ok(address) } else { Err(format!("{worker:?} listens").into()) }
}

async fn listens(events: &mut Events) -> Outcome<(WorkerHandle, SocketAddr)> {
    let listens = |event| match event {
        Event::Listening { worker, address } => Some((worker, address)),
        _ => None,
    };
    let (worker, address) = next(events, "one listens", listens).await?;
    Ok((worker, address.parse()?))
}

async fn ready(events: &mut Events) -> Outcome<WorkerHandle> {
    let ready = |event| match event {
        Event::Ready { worker, .. } => Some(worker),
        _ => None,
    };
    next(events, "one is ready", ready).await
}

async fn message(events: &mut Events) -> Outcome<(WorkerHandle, Message)> {
    let message = |event| match event {
        Event::Message { worker, message } => Some((worker, message)),
        _ => None,
    };
    next(events, "a message", message).await
}

/// Tells how a worker ended, and that its channel ended before.
async fn left(events: &mut Events, of: &WorkerHandle) -> Outcome<()> {
    let mut disconnected = false;
    let (code, signal) = next(events, "it ends", |event| match event {
        Event::Disconnect { worker } if worker == *of => {
            disconnected = true;
            None
        }
        Event::Exit { worker, code, signal } if worker == *of => Some((code, signal)),
        _ => None,
    })
    .await?;
    tell(&json!({
        "left": of.id(), "code": code, "signal": signal, "disconnected": disconnected,
        "exited_after_disconnect": of.exited_after_disconnect(), "is_dead": of.is_dead(),
    }));
    Ok(())
}

fn get(address: SocketAddr) -> Outcome<Value> {
    let mut client = TcpStream::connect(address)?;
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("half an answer")?;
    // Node sends it in chunks unless its length is told.
    let body = body.lines().find(|line| line.starts_with('{')).ok_or("no object")?;
    Ok(serde_json::from_str(body)?)
}

fn tell(what: &Value) {
    println!("{what}");
}
