//! `run`, and what it exits with.

use std::process::ExitCode;
use std::time::Duration;

use oxherd::{
    Cluster, ClusterError, Distribution, Event, RestartWhen, Runtime, Sockets, Strategy, Worker, Workers,
};

use crate::stage::{builder, scenarios};

scenarios! {
    workers_that_are_done_end_it => 0, ["Every worker has ended and none is to be restarted"];
    an_error_is_reported_and_given_up => 3, [
        "reports an error: it is cold: the heating is broken",
        "Error: it is cold: the heating is broken",
        "Gave up on 1 slot",
        "heard of it",
    ];
    a_panic_is_reported => 3, ["reports an error: thread 'main' panicked at", "ended with code 101"];
    a_wrong_option_is_named => 2, ["oxherd: cannot start the cluster: max_restarts must be at least 1"];
    a_variable_that_cannot_be_is_named => 2, ["oxherd: cannot give workers the variable \"A=B\": "];
    a_strategy_that_cannot_be_is_named => 2, ["oxherd: cannot start the cluster: "];
    a_program_that_is_not_there_is_named => 2, ["no-such-program"];
    signals_end_it => 0, ["Stopped: 2 workers ended"];
    reports_are_called_for => 0, ["a report with 1 worker"];
    a_runtime_of_several_threads => 0, ["on 2 threads"];
    a_runtime_around_it_is_no_matter => 0, ["Every worker has ended and none is to be restarted"];
    a_panic_waits_for_no_other_thread => 3, ["ended with code 101"];
    a_worker_cannot_have_workers => 0, ["oxherd: cannot start a cluster: this is a worker of one already"];
    another_program_is_run_as_it_is => 0, ["slot 0 | hello from a shell"];
}

type Done = Result<(), std::io::Error>;

async fn done(_: Worker) -> Done {
    Ok(())
}

fn workers_that_are_done_end_it() -> ExitCode {
    Cluster::builder().workers(Workers::Count(2)).restart(RestartWhen::OnFailure).run(done)
}

#[derive(Debug, thiserror::Error)]
#[error("it is cold")]
struct Cold(#[source] std::io::Error);

async fn cold(_: Worker) -> Result<(), Cold> {
    Err(Cold(std::io::Error::other("the heating is broken")))
}

fn an_error_is_reported_and_given_up() -> ExitCode {
    let cluster = Cluster::builder().workers(Workers::Count(1)).max_errors(2).restart_delay(Duration::ZERO);
    cluster
        .on_event(|_, event| {
            if let Event::Error { error, .. } = event {
                println!("heard of it: {error}");
            }
        })
        .run(cold)
}

async fn panics(_: Worker) -> Done {
    panic!("planted");
}

fn a_panic_is_reported() -> ExitCode {
    Cluster::builder().workers(Workers::Count(1)).max_restarts(1).run(panics)
}

/// Panics while a thread of its runtime is busy for ever.
pub(crate) async fn panics_beside_a_busy_thread(_: Worker) -> Done {
    let (tell, told) = tokio::sync::oneshot::channel();
    tokio::task::spawn_blocking(move || {
        tell.send(()).unwrap();
        loop {
            std::thread::park();
        }
    });
    told.await.unwrap();
    panic!("planted");
}

fn a_panic_waits_for_no_other_thread() -> ExitCode {
    Cluster::builder().workers(Workers::Count(1)).max_restarts(1).run(panics_beside_a_busy_thread)
}

fn a_wrong_option_is_named() -> ExitCode {
    let refused = |builder: oxherd::Builder| builder.start(done).unwrap_err().to_string();
    let ports = refused(builder().ports("80".parse().unwrap()));
    assert!(ports.contains("ports have no effect with sockets `channel`"), "{ports}");
    let listen = refused(builder().sockets(Sockets::ListenFds).listen(("a:b", "127.0.0.1:80")));
    assert!(listen.contains("cannot be a listener's name"), "{listen}");
    let standby = refused(builder().sockets(Sockets::None).standby(1));
    assert!(standby.contains("standbys wait where they want to listen"), "{standby}");
    let handoff = refused(builder().sockets(Sockets::Universal).distribution(Distribution::Handoff));
    assert!(handoff.contains("distribution `handoff`"), "{handoff}");
    builder().max_restarts(0).run(done)
}

fn a_variable_that_cannot_be_is_named() -> ExitCode {
    for (key, value) in [("", "x"), ("A\0", "x"), ("=", "x"), ("A", "\0")] {
        let refused = builder().env("GOOD", "=").env(key, value).start(done).unwrap_err();
        assert!(matches!(&refused, ClusterError::BadVariable(it) if it == key), "{refused}");
    }
    builder().env("A=B", "x").run(done)
}

fn a_strategy_that_cannot_be_is_named() -> ExitCode {
    builder().strategy(Strategy::Weighted).weights([0, 0]).run(done)
}

fn a_program_that_is_not_there_is_named() -> ExitCode {
    Cluster::builder().workers(Workers::Count(1)).program("/tmp/no-such-program").run(done)
}

async fn waits(worker: Worker) -> Done {
    worker.ready().map_err(std::io::Error::other)?;
    worker.shutdown().await;
    Ok(())
}

fn signals_end_it() -> ExitCode {
    let terminate = |_: &Cluster, event| {
        if let Event::Serving { .. } = event {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
        }
    };
    let cluster = Cluster::builder().workers(Workers::Count(2)).wait_ready(true).signals(true);
    cluster.on_event(terminate).run(waits)
}

fn reports_are_called_for() -> ExitCode {
    let cluster = Cluster::builder().workers(Workers::Count(1)).restart(RestartWhen::Never);
    let (told, heard) = std::sync::mpsc::channel();
    let cluster = cluster.status_interval(Duration::from_millis(20)).on_report(move |report| {
        let workers = report.apps[0].workers.len();
        println!("a report with {workers} worker");
        told.send(()).unwrap();
    });
    cluster
        .on_event(move |cluster, event| {
            if let Event::Serving { .. } = event {
                heard.recv().unwrap();
                cluster.workers()[0].terminate().unwrap();
            }
        })
        .wait_ready(true)
        .run(waits)
}

async fn counts_threads(_: Worker) -> Done {
    println!("on {} threads", tokio::runtime::Handle::current().metrics().num_workers());
    Ok(())
}

fn a_runtime_of_several_threads() -> ExitCode {
    let cluster = builder().workers(Workers::Count(1)).restart(RestartWhen::Never);
    cluster.runtime(Runtime::MultiThread(2)).run(counts_threads)
}

fn a_runtime_around_it_is_no_matter() -> ExitCode {
    let cluster = Cluster::builder().workers(Workers::Count(1)).restart(RestartWhen::Never);
    crate::stage::block_on(async { cluster.run(done) })
}

async fn wants_workers(_: Worker) -> Result<(), ClusterError> {
    assert!(matches!(Cluster::builder().primary(), Err(ClusterError::IsWorker)));
    assert!(matches!(Cluster::builder().start(done), Err(ClusterError::IsWorker)));
    let code = Cluster::builder().run(done);
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(2)));
    Ok(())
}

fn a_worker_cannot_have_workers() -> ExitCode {
    builder().workers(Workers::Count(1)).restart(RestartWhen::Never).run(wants_workers)
}

fn another_program_is_run_as_it_is() -> ExitCode {
    let cluster = Cluster::builder().workers(Workers::Count(1)).restart(RestartWhen::Never);
    cluster.program("/bin/sh").args(["-c", "echo hello from a shell"]).sockets(Sockets::None).run(done)
}
