//! A cluster in the hands of a program's own logic, method by method; its workers are processes.

use std::collections::BTreeSet;
use std::process::ExitCode;

use oxherd::{Attachment, Cluster, ClusterError, Event, Signal, Worker, WorkerHandle, Workers};
use serde::{Deserialize, Serialize};

use crate::stage::{
    ask, block_on, builder, eventually, free_address, line_server, scenarios, serving, start, until,
};

scenarios! {
    forked_with_an_environment => 0, [];
    a_disconnected_worker_is_not_replaced => 0, [];
    a_terminated_worker_is => 0, [];
    a_killed_worker_is_replaced_with_its_tree => 0, [];
    a_reload_loses_nothing => 0, [];
    a_reload_runs_the_file_that_stands_there_now => 0, [];
    an_aborted_reload_says_why => 0, [];
    a_reload_that_the_end_overtakes_says_so => 0, ["Reload is aborted: the app was stopped or restarted meanwhile\n"];
    scaling_up_and_down => 0, [];
    restarting => 0, [];
    status_tells_of_slots_and_figures => 0, [];
    messages_both_ways => 0, [];
    sockets_on_messages_both_ways => 0, [];
    broadcasts => 0, [];
    what_has_ended_says_so => 0, [];
    memory_is_warned_of => 0, ["uses "];
    kill_ends_everything => 1, [];
    the_end_is_awaited_by_any_thread => 0, [];
}

fn stopped(cluster: &Cluster) -> ExitCode {
    block_on(cluster.shutdown())
}

/// Who answers, by id.
fn who(line: &str) -> u64 {
    line.split(' ').next().unwrap().parse().unwrap()
}

async fn forked(cluster: &Cluster, role: &str) -> WorkerHandle {
    let mut events = cluster.events();
    let worker = cluster.fork_with([("ROLE", role)]).await.unwrap();
    until(&mut events, |event| match event {
        Event::Ready { worker: ready, .. } if ready == worker => Some(()),
        _ => None,
    })
    .await;
    worker
}

fn forked_with_an_environment() -> ExitCode {
    let (cluster, mut events) =
        start(builder().workers(Workers::None).env("ADDRESS", free_address().to_string()), line_server);
    block_on(async {
        let one = forked(&cluster, "one").await;
        let address = serving(&mut events).await;
        assert_eq!((one.slot(), one.generation(), one.is_dead()), (0, 1, false));
        assert!(one.pid().is_some_and(|pid| pid != std::process::id()));
        assert_eq!(ask(address), format!("{} 0 1 one\n", one.id()));
        let two = forked(&cluster, "two").await;
        assert_eq!((two.slot(), cluster.workers()), (1, vec![one.clone(), two.clone()]));
        assert_eq!(cluster.worker(two.id()), Some(two.clone()));
        let answers: BTreeSet<String> = (0..20).map(|_| ask(address)).collect();
        assert_eq!(answers.len(), 2, "{answers:?}");
        // A respawn has its slot's environment.
        two.terminate().unwrap();
        let third = until(&mut events, |event| match event {
            Event::Ready { worker, .. } if worker.slot() == 1 && worker != two => Some(worker),
            _ => None,
        });
        let third = third.await;
        let line = format!("{} 1 1 two\n", third.id());
        eventually("the respawn serves", || ask(address) == line).await;
    });
    stopped(&cluster)
}

async fn exit_of(cluster: &Cluster, worker: &WorkerHandle, act: impl FnOnce()) -> (Option<i32>, Option<i32>) {
    let mut events = cluster.events();
    act();
    let mut disconnected = false;
    until(&mut events, |event| match event {
        Event::Disconnect { worker: it } if it == *worker => {
            assert!(!it.is_connected());
            disconnected = true;
            None
        }
        Event::Exit { worker: it, code, signal } if it == *worker => {
            assert!(disconnected, "the end of the channel is told first");
            Some((code, signal))
        }
        _ => None,
    })
    .await
}

fn a_disconnected_worker_is_not_replaced() -> ExitCode {
    let (cluster, mut events) = start(builder().workers(Workers::Count(2)), line_server);
    block_on(async {
        let address = serving(&mut events).await;
        let [one, two] = cluster.workers().try_into().unwrap();
        assert_eq!((one.is_connected(), one.exited_after_disconnect()), (true, None));
        assert_eq!(exit_of(&cluster, &one, || one.disconnect().unwrap()).await, (Some(0), None));
        assert_eq!((one.is_dead(), one.exited_after_disconnect()), (true, Some(true)));
        eventually("its slot stays empty", || cluster.workers() == [two.clone()]).await;
        assert!((0..5).all(|_| who(&ask(address)) == two.id()));
        let again = forked(&cluster, "again").await;
        assert_eq!(again.slot(), one.slot());
        assert!(matches!(one.disconnect(), Err(ClusterError::WorkerGone(id)) if id == one.id()));
    });
    stopped(&cluster)
}

fn a_terminated_worker_is() -> ExitCode {
    let (cluster, mut events) =
        start(builder().workers(Workers::Count(1)).stop_signal(Signal::INT), line_server);
    block_on(async {
        serving(&mut events).await;
        let worker = cluster.workers()[0].clone();
        let exit = exit_of(&cluster, &worker, || worker.terminate().unwrap()).await;
        assert_eq!((exit, worker.exited_after_disconnect()), ((None, Some(2)), Some(false)));
        until(&mut events, |event| matches!(event, Event::Respawn { slot: 0, .. }).then_some(())).await;
        serving(&mut events).await;
    });
    stopped(&cluster)
}

async fn with_a_child(worker: Worker) -> Result<(), std::io::Error> {
    let child = std::process::Command::new("sleep").arg("1000").spawn()?;
    worker.send(&child.id()).map_err(std::io::Error::other)?;
    std::future::pending().await
}

fn a_killed_worker_is_replaced_with_its_tree() -> ExitCode {
    let (cluster, mut events) = start(builder().workers(Workers::None), with_a_child);
    block_on(async {
        let child = |event| match event {
            Event::Message { worker, message } => Some((worker, message.parse::<u32>().unwrap())),
            _ => None,
        };
        cluster.fork_with([("CHILD", "sleep")]).await.unwrap();
        let (worker, sleeper) = until(&mut events, child).await;
        assert_eq!(exit_of(&cluster, &worker, || worker.kill().unwrap()).await, (None, Some(9)));
        let path = format!("/proc/{sleeper}/environ");
        let is_gone = || std::fs::read(&path).unwrap_or_default().is_empty();
        eventually("its child is gone", is_gone).await;
        let (next, _) = until(&mut events, child).await;
        assert_eq!((next.slot(), next == worker), (0, false));
    });
    block_on(cluster.kill());
    ExitCode::SUCCESS
}

fn a_reload_loses_nothing() -> ExitCode {
    let (cluster, mut events) = start(builder().workers(Workers::Count(2)), line_server);
    block_on(async {
        let address = serving(&mut events).await;
        let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stop = std::sync::Arc::clone(&done);
        let clients = std::thread::spawn(move || {
            let mut count = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                ask(address);
                count += 1;
            }
            count
        });
        cluster.reload().await.unwrap();
        assert!(cluster.workers().iter().all(|worker| worker.generation() == 2));
        cluster.reload().await.unwrap();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(clients.join().unwrap() > 0);
        let mut told = Vec::new();
        while told.len() < 4 {
            match events.recv().await.unwrap() {
                Event::ReloadStarted { generation } => told.push(("started", generation)),
                Event::ReloadDone { generation, .. } => told.push(("done", generation)),
                _ => {}
            }
        }
        assert_eq!(told, [("started", 2), ("done", 2), ("started", 3), ("done", 3)]);
    });
    stopped(&cluster)
}

/// The program is a file of its own that is replaced meanwhile.
fn a_reload_runs_the_file_that_stands_there_now() -> ExitCode {
    let folder = std::env::temp_dir().join(format!("oxherd-sdk-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("program");
    let script = |release: u32| {
        use std::os::unix::fs::PermissionsExt;
        let text = format!("#!/bin/sh\necho '{{\"release\":{release}}}' >&3\nexec sleep 1000\n");
        let new = folder.join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::rename(&new, &program).unwrap();
    };
    script(1);
    let cluster = builder().workers(Workers::None).program(&program).primary().unwrap();
    block_on(async {
        let mut events = cluster.events();
        cluster.fork_with([("RELEASE", "any")]).await.unwrap();
        let release = |event| match event {
            Event::Message { message, .. } => Some(message.raw().to_owned()),
            _ => None,
        };
        assert_eq!(until(&mut events, release).await, r#"{"release":1}"#);
        eventually("it is ready by its age", || block_is_online(&cluster)).await;
        script(2);
        let reload = cluster.reload();
        let told = until(&mut events, release);
        let (reloaded, told) = tokio::join!(reload, told);
        reloaded.unwrap();
        assert_eq!(told, r#"{"release":2}"#);
    });
    block_on(cluster.kill());
    std::fs::remove_dir_all(&folder).unwrap();
    ExitCode::SUCCESS
}

/// Asked from a thread of its own, because a runtime is at work here.
fn block_is_online(cluster: &Cluster) -> bool {
    let cluster = cluster.clone();
    let status = std::thread::spawn(move || block_on(cluster.status()).unwrap()).join().unwrap();
    status.report.apps[0].active == 1
}

async fn fails_later(worker: Worker) -> Result<(), std::io::Error> {
    if worker.generation() > 1 {
        return Err(std::io::Error::other("the new release is broken"));
    }
    line_server(worker).await
}

fn an_aborted_reload_says_why() -> ExitCode {
    let (cluster, mut events) = start(builder().workers(Workers::Count(2)), fails_later);
    block_on(async {
        let address = serving(&mut events).await;
        let error = cluster.reload().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the reload is aborted: the successor in slot 0 ended with code 1; the old workers go on"
        );
        until(&mut events, |event| matches!(event, Event::ReloadAborted { .. }).then_some(())).await;
        assert!(cluster.workers().iter().all(|worker| worker.generation() == 1));
        ask(address);
    });
    stopped(&cluster)
}

async fn never_ready_again(worker: Worker) -> Result<(), std::io::Error> {
    if worker.generation() == 1 {
        return line_server(worker).await;
    }
    worker.shutdown().await;
    Ok(())
}

fn a_reload_that_the_end_overtakes_says_so() -> ExitCode {
    let builder = builder().console(true).workers(Workers::Count(1));
    let builder = builder.min_uptime(std::time::Duration::from_secs(1000));
    let (cluster, mut events) = start(builder, never_ready_again);
    block_on(async {
        serving(&mut events).await;
        let reload = async {
            let error = cluster.reload().await.unwrap_err();
            assert!(matches!(error, ClusterError::Superseded), "{error}");
        };
        let end = async {
            until(&mut events, |event| match event {
                Event::Online { worker } if worker.generation() == 2 => Some(()),
                _ => None,
            })
            .await;
            cluster.shutdown().await
        };
        tokio::join!(reload, end).1
    })
}

fn scaling_up_and_down() -> ExitCode {
    let (cluster, mut events) = start(builder().workers(Workers::Count(1)), line_server);
    block_on(async {
        serving(&mut events).await;
        cluster.scale(3).await.unwrap();
        assert_eq!(cluster.workers().iter().map(WorkerHandle::slot).collect::<Vec<_>>(), [0, 1, 2]);
        cluster.scale(1).await.unwrap();
        assert_eq!(cluster.workers().iter().map(WorkerHandle::slot).collect::<Vec<_>>(), [0]);
        let error = cluster.scale(1_000_000).await.unwrap_err();
        assert!(matches!(error, ClusterError::Refused(_)), "{error}");
        assert_eq!(error.to_string(), "1000000 instances are more than the limit of 1024");
        assert!(cluster.scale(0).await.is_err());
    });
    stopped(&cluster)
}

fn restarting() -> ExitCode {
    let (cluster, mut events) = start(builder().workers(Workers::Count(2)), line_server);
    block_on(async {
        serving(&mut events).await;
        let before = cluster.workers();
        cluster.restart().await.unwrap();
        let after = cluster.workers();
        assert!(after.len() == 2 && after.iter().all(|worker| !before.contains(worker)));
    });
    stopped(&cluster)
}

fn status_tells_of_slots_and_figures() -> ExitCode {
    let (cluster, mut events) = start(builder().name("herd").workers(Workers::Count(2)), line_server);
    block_on(async {
        let address = serving(&mut events).await;
        for _ in 0..10 {
            ask(address);
        }
        let status = cluster.status().await.unwrap();
        assert_eq!((status.slots.name.as_str(), status.slots.slots.len()), ("herd", 2));
        let app = &status.report.apps[0];
        assert_eq!((app.active, app.workers.len()), (2, 2));
        assert!(app.handed_over >= 10 && status.report.primary_memory > 0);
    });
    stopped(&cluster)
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Sum {
    of: Vec<u64>,
}

async fn adds(worker: Worker) -> Result<(), std::io::Error> {
    let mut messages = worker.messages();
    while let Some(message) = messages.recv().await {
        if let Ok(sum) = message.parse::<Sum>() {
            worker.send(&sum.of.iter().sum::<u64>()).map_err(std::io::Error::other)?;
        }
    }
    Ok(())
}

fn messages_both_ways() -> ExitCode {
    let (cluster, mut events) = start(builder().workers(Workers::Count(1)), adds);
    block_on(async {
        eventually("it is forked", || cluster.workers().len() == 1).await;
        let worker = cluster.workers()[0].clone();
        for number in 0..100 {
            worker.send(&Sum { of: vec![number, 1] }).unwrap();
        }
        for number in 0..100 {
            let (from, answer) = until(&mut events, |event| match event {
                Event::Message { worker, message } => Some((worker, message)),
                _ => None,
            })
            .await;
            assert_eq!((from, answer.parse::<u64>().unwrap()), (worker.clone(), number + 1));
            let error = answer.parse::<Sum>().unwrap_err();
            assert!(error.to_string().starts_with("message is no Sum"), "{error}");
        }
        let reserved = worker.send(&serde_json::json!({ "cmd": "NODE_CLUSTER" })).unwrap_err();
        assert!(matches!(reserved, ClusterError::Message(_)), "{reserved}");
    });
    stopped(&cluster)
}

async fn answers_over_sockets(worker: Worker) -> Result<(), std::io::Error> {
    let mut messages = worker.messages();
    while let Some(mut message) = messages.recv().await {
        if let Some(Attachment::UnixStream(mut stream)) = message.take_attachment() {
            use std::io::Write;
            stream.write_all(b"from the worker")?;
            worker.send_with(&"yours again", stream).map_err(std::io::Error::other)?;
        }
    }
    Ok(())
}

fn sockets_on_messages_both_ways() -> ExitCode {
    use std::io::{Read, Write};
    let (cluster, mut events) = start(builder().workers(Workers::Count(1)), answers_over_sockets);
    block_on(async {
        eventually("it is forked", || cluster.workers().len() == 1).await;
        let (mut here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        cluster.workers()[0].send_with(&"for you", there).unwrap();
        let mut message = until(&mut events, |event| match event {
            Event::Message { message, .. } => Some(message),
            _ => None,
        })
        .await;
        let Some(Attachment::UnixStream(mut back)) = message.clone().take_attachment() else {
            panic!("{message:?}")
        };
        assert!(message.take_attachment().is_none(), "there is one");
        back.write_all(b", and back").unwrap();
        drop(back);
        let mut text = String::new();
        here.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from the worker, and back");
    });
    stopped(&cluster)
}

fn broadcasts() -> ExitCode {
    let (cluster, mut events) = start(builder().workers(Workers::Count(3)), adds);
    block_on(async {
        eventually("all are forked", || cluster.workers().len() == 3).await;
        assert_eq!(cluster.broadcast(&Sum { of: vec![3, 4] }).unwrap(), 3);
        let mut answered = BTreeSet::new();
        while answered.len() < 3 {
            answered.insert(
                until(&mut events, |event| match event {
                    Event::Message { worker, message } => {
                        assert_eq!(message.parse::<u64>().unwrap(), 7);
                        Some(worker.id())
                    }
                    _ => None,
                })
                .await,
            );
        }
    });
    stopped(&cluster)
}

fn what_has_ended_says_so() -> ExitCode {
    let (cluster, mut events) = start(builder().workers(Workers::None), adds);
    let worker = block_on(cluster.fork_with([("A", "b")])).unwrap();
    let code = stopped(&cluster);
    block_on(async {
        assert!(matches!(cluster.reload().await, Err(ClusterError::Ended)));
        assert!(matches!(cluster.fork_with([("A", "b")]).await, Err(ClusterError::Ended)));
        assert!(matches!(cluster.status().await, Err(ClusterError::Ended)));
        assert!(matches!(worker.send(&1), Err(ClusterError::Disconnected(_))));
        assert!(worker.kill().is_err() && worker.is_dead() && cluster.workers().is_empty());
        assert_eq!(cluster.broadcast(&1).unwrap(), 0);
        while events.recv().await.is_some() {}
        assert!(cluster.events().recv().await.is_none());
        cluster.shutdown().await;
    });
    code
}

fn memory_is_warned_of() -> ExitCode {
    let (cluster, mut events) =
        start(builder().console(true).workers(Workers::Count(1)).memory_warning(1 << 16), adds);
    block_on(async {
        let alert = |event| match event {
            Event::Alert(oxherd::primary::Alert::MemoryAbove { bytes, limit, .. }) => Some((bytes, limit)),
            _ => None,
        };
        let (bytes, limit) = until(&mut events, alert).await;
        assert!(bytes > limit && limit == 1 << 16);
    });
    stopped(&cluster)
}

fn kill_ends_everything() -> ExitCode {
    let (cluster, _events) = start(builder().workers(Workers::Count(2)), with_a_child);
    block_on(async {
        eventually("all are forked", || cluster.workers().len() == 2).await;
        cluster.kill().await
    })
}

fn the_end_is_awaited_by_any_thread() -> ExitCode {
    let (cluster, _events) = start(builder().workers(Workers::Count(1)), adds);
    let waiter = cluster.clone();
    let waiter = std::thread::spawn(move || waiter.wait());
    block_on(async {
        let ended = cluster.ended();
        let (code, ended) = tokio::join!(cluster.shutdown(), ended);
        assert_eq!(format!("{code:?}"), format!("{ended:?}"));
    });
    waiter.join().unwrap()
}
