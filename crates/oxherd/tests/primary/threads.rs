//! Workers that are threads: the same API, other lives.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oxherd::primary::Alert;
use oxherd::{Cluster, ClusterError, Event, RestartWhen, Serialization, Sockets, Worker, Workers};

use crate::running::panics_beside_a_busy_thread;
use crate::stage::{ask, block_on, builder, eventually, line_server, scenarios, serving, start, until};

scenarios! {
    threads_serve_under_one_address => 0, [];
    a_panicking_thread_is_respawned => 0, ["reports an error: thread 'worker-0' panicked at"];
    a_thread_that_does_not_stop_is_left_to_itself => 0, ["does not stop and is left to itself"];
    a_killed_thread_that_waits_stops => 0, [];
    a_terminated_thread_is_told_to_leave => 0, [];
    a_reload_of_threads_loses_nothing => 0, [];
    messages_of_threads => 0, [];
    values_of_threads => 0, [];
    a_thread_has_no_environment_of_its_own => 0, [];
    a_thread_that_is_done_ends_it => 0, ["Every worker has ended and none is to be restarted"];
    threads_need_a_function => 0, [];
    a_panicking_thread_waits_for_no_other => 3, ["ended with code 101"];
    a_thread_cannot_have_workers => 0, ["oxherd: cannot start a cluster: this is a worker of one already"];
}

fn stopped(cluster: &Cluster) -> ExitCode {
    block_on(cluster.shutdown())
}

fn threads_serve_under_one_address() -> ExitCode {
    let (cluster, mut events) = start(builder().workers(Workers::Threads(3)), line_server);
    block_on(async {
        let address = serving(&mut events).await;
        let mut answered = BTreeSet::new();
        eventually("each serves", || {
            answered.insert(ask(address));
            answered.len() == 3
        })
        .await;
        let own = std::process::id();
        assert!(cluster.workers().iter().all(|worker| worker.pid() == Some(own)));
        let names = thread_names();
        assert!((0..3).all(|slot| names.contains(&format!("worker-{slot}"))), "{names:?}");
        cluster.scale(1).await.unwrap();
        assert_eq!(cluster.workers().len(), 1);
        ask(address);
    });
    let code = stopped(&cluster);
    // A thread's last breath comes after the news of its end.
    let are_gone = || !thread_names().iter().any(|name| name.starts_with("worker-"));
    block_on(eventually("the threads are gone", are_gone));
    code
}

fn thread_names() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim_end().to_owned()).collect()
}

static HAS_PANICKED: AtomicBool = AtomicBool::new(false);

async fn panics_once(worker: Worker) -> Result<(), std::io::Error> {
    if !HAS_PANICKED.swap(true, Ordering::SeqCst) {
        panic!("planted");
    }
    line_server(worker).await
}

fn a_panicking_thread_is_respawned() -> ExitCode {
    let (cluster, mut events) = start(builder().console(true).workers(Workers::Threads(1)), panics_once);
    block_on(async {
        let code = until(&mut events, |event| match event {
            Event::Exit { code, .. } => Some(code),
            _ => None,
        });
        assert_eq!(code.await, Some(101));
        ask(serving(&mut events).await);
    });
    stopped(&cluster)
}

fn a_panicking_thread_waits_for_no_other() -> ExitCode {
    Cluster::builder().workers(Workers::Threads(1)).max_restarts(1).run(panics_beside_a_busy_thread)
}

static STUCK: AtomicBool = AtomicBool::new(false);

async fn gets_stuck_once(worker: Worker) -> Result<(), std::io::Error> {
    if !STUCK.swap(true, Ordering::SeqCst) {
        worker.ready().map_err(std::io::Error::other)?;
        loop {
            std::thread::park();
        }
    }
    worker.ready().map_err(std::io::Error::other)?;
    line_server(worker).await
}

fn a_thread_that_does_not_stop_is_left_to_itself() -> ExitCode {
    let (cluster, mut events) =
        start(builder().console(true).workers(Workers::Threads(1)).wait_ready(true), gets_stuck_once);
    block_on(async {
        let worker = until(&mut events, |event| match event {
            Event::Ready { worker, .. } => Some(worker),
            _ => None,
        });
        let worker = worker.await;
        worker.kill().unwrap();
        let place = until(&mut events, |event| match event {
            Event::Alert(Alert::ThreadAbandoned { place, .. }) => Some(place),
            _ => None,
        });
        assert_eq!(place.await.slot.0, 0);
        let signal = until(&mut events, |event| match event {
            Event::Exit { signal, .. } => Some(signal),
            _ => None,
        });
        assert_eq!(signal.await, Some(9));
        ask(serving(&mut events).await);
    });
    stopped(&cluster)
}

async fn waits_for_ever(worker: Worker) -> Result<(), std::io::Error> {
    worker.ready().map_err(std::io::Error::other)?;
    std::future::pending().await
}

fn a_killed_thread_that_waits_stops() -> ExitCode {
    let (cluster, mut events) =
        start(builder().workers(Workers::Threads(1)).wait_ready(true), waits_for_ever);
    block_on(async {
        let ready = |event| match event {
            Event::Ready { worker, .. } => Some(worker),
            Event::Alert(alert) => panic!("{alert:?}"),
            _ => None,
        };
        let worker = until(&mut events, ready).await;
        worker.kill().unwrap();
        let exit = until(&mut events, |event| match event {
            Event::Exit { code, signal, .. } => Some((code, signal)),
            Event::Alert(alert) => panic!("{alert:?}"),
            _ => None,
        });
        assert_eq!(exit.await, (None, Some(9)));
        until(&mut events, ready).await;
        cluster.kill().await
    });
    ExitCode::SUCCESS
}

fn a_terminated_thread_is_told_to_leave() -> ExitCode {
    let (cluster, mut events) = start(builder().workers(Workers::Threads(1)), line_server);
    block_on(async {
        serving(&mut events).await;
        cluster.workers()[0].terminate().unwrap();
        let exit = until(&mut events, |event| match event {
            Event::Exit { code, .. } => Some(code),
            _ => None,
        });
        assert_eq!(exit.await, Some(0));
        // It has closed its server, and nobody else had it: the next one opens another.
        ask(serving(&mut events).await);
    });
    stopped(&cluster)
}

fn a_reload_of_threads_loses_nothing() -> ExitCode {
    let (cluster, mut events) = start(builder().workers(Workers::Threads(2)), line_server);
    block_on(async {
        let address = serving(&mut events).await;
        let done = std::sync::Arc::new(AtomicBool::new(false));
        let stop = std::sync::Arc::clone(&done);
        let clients = std::thread::spawn(move || {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                ask(address);
                count += 1;
            }
            count
        });
        for generation in 2..5 {
            cluster.reload().await.unwrap();
            assert!(cluster.workers().iter().all(|worker| worker.generation() == generation));
        }
        done.store(true, Ordering::Relaxed);
        assert!(clients.join().unwrap() > 0);
    });
    stopped(&cluster)
}

async fn echoes(worker: Worker) -> Result<(), std::io::Error> {
    let mut messages = worker.messages();
    while let Some(message) = messages.recv().await {
        if message.kind().as_deref() == Some("shutdown") {
            break;
        }
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        worker.send(&(name, message.raw())).map_err(std::io::Error::other)?;
    }
    Ok(())
}

fn messages_of_threads() -> ExitCode {
    exchange(Serialization::Json)
}

fn values_of_threads() -> ExitCode {
    exchange(Serialization::Advanced)
}

fn exchange(serialization: Serialization) -> ExitCode {
    let builder = builder().workers(Workers::Threads(2)).serialization(serialization);
    let (cluster, mut events) = start(builder, echoes);
    block_on(async {
        eventually("both are there", || cluster.workers().len() == 2).await;
        assert_eq!(cluster.broadcast(&7).unwrap(), 2);
        let mut heard = BTreeSet::new();
        while heard.len() < 2 {
            heard.insert(
                until(&mut events, |event| match event {
                    Event::Message { message, .. } => Some(message.parse::<(String, String)>().unwrap()),
                    _ => None,
                })
                .await,
            );
        }
        let expected = ["worker-0", "worker-1"].map(|name| (name.to_owned(), "7".to_owned()));
        assert_eq!(heard, expected.into());
    });
    stopped(&cluster)
}

fn a_thread_has_no_environment_of_its_own() -> ExitCode {
    let (cluster, _events) = start(builder().workers(Workers::Threads(1)), line_server);
    block_on(async {
        let refused = cluster.fork_with([("ROLE", "x")]).await.unwrap_err();
        assert!(matches!(refused, ClusterError::NoEnvironment), "{refused}");
        let worker = cluster.fork().await.unwrap();
        assert_eq!(worker.slot(), 1);
    });
    stopped(&cluster)
}

async fn done(_: Worker) -> Result<(), std::io::Error> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(())
}

fn a_thread_that_is_done_ends_it() -> ExitCode {
    Cluster::builder().workers(Workers::Threads(2)).restart(RestartWhen::Never).run(done)
}

fn threads_need_a_function() -> ExitCode {
    let refused = builder().workers(Workers::Threads(1)).primary().unwrap_err();
    assert!(matches!(refused, ClusterError::NoFunction), "{refused}");
    let refused = builder().workers(Workers::Threads(1)).sockets(Sockets::Universal).start(done).unwrap_err();
    assert!(matches!(refused, ClusterError::ThreadsByChannel(Sockets::Universal)), "{refused}");
    ExitCode::SUCCESS
}

async fn wants_workers(_: Worker) -> Result<(), std::io::Error> {
    assert!(matches!(Cluster::builder().primary(), Err(ClusterError::IsWorker)));
    assert!(matches!(Cluster::builder().start(done), Err(ClusterError::IsWorker)));
    let code = Cluster::builder().run(done);
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(2)));
    Ok(())
}

fn a_thread_cannot_have_workers() -> ExitCode {
    builder().workers(Workers::Threads(1)).restart(RestartWhen::Never).run(wants_workers)
}
