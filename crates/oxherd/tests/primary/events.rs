//! What a cluster tells, in which order, and to those who are slow.

use std::process::ExitCode;

#[cfg(feature = "stream")]
use futures_core::Stream;
use oxherd::primary::Alert;
use oxherd::{Event, RestartWhen, Worker, Workers};

use crate::stage::{block_on, builder, line_server, scenarios, start, until};

scenarios! {
    a_life_is_told_in_order => 0, [];
    who_is_slow_is_told_what_was_lost => 0, [];
    who_never_reads_keeps_no_more_than_there_is_room_for => 0, [];
    giving_up_is_told => 3, [];
    every_message_is_told_once => 0, [];
    events_are_a_stream_too => 0, [];
}

fn a_life_is_told_in_order() -> ExitCode {
    let (cluster, mut events) = start(builder().workers(Workers::Count(1)), line_server);
    block_on(async {
        let mut told = Vec::new();
        // The fork may have been told before anybody could listen.
        until(&mut events, |event| {
            told.extend(name_of(&event));
            matches!(event, Event::Serving { .. }).then_some(())
        })
        .await;
        assert!(told.ends_with(&["online", "listening", "ready", "serving"]), "{told:?}");
        cluster.shutdown().await;
        told.clear();
        while let Some(event) = events.recv().await {
            told.extend(name_of(&event));
        }
        assert_eq!(told, ["disconnect", "exit"]);
    });
    cluster.wait()
}

fn name_of(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::Fork { .. } => "fork",
        Event::Online { .. } => "online",
        Event::Listening { address, .. } => {
            assert!(address.starts_with("127.0.0.1:"), "{address}");
            "listening"
        }
        Event::Ready { .. } => "ready",
        Event::Serving { workers: 1, .. } => "serving",
        Event::Disconnect { .. } => "disconnect",
        Event::Exit { worker, code: Some(0), .. } => {
            assert!(worker.is_dead() && worker.exited_after_disconnect() == Some(true));
            "exit"
        }
        Event::Notice(_) => return None,
        other => panic!("{other:?}"),
    })
}

async fn talks(worker: Worker) -> Result<(), std::io::Error> {
    for number in 0..100 {
        worker.send(&number).map_err(std::io::Error::other)?;
    }
    Ok(())
}

fn who_is_slow_is_told_what_was_lost() -> ExitCode {
    let (cluster, mut events) = start(
        builder().workers(Workers::Count(1)).restart(RestartWhen::Never).event_capacity(8).stays(false),
        talks,
    );
    let code = cluster.wait();
    let Some(Event::Lagged(lost)) = events.blocking_recv() else { panic!("nothing was lost") };
    assert!(lost >= 80, "{lost}");
    let mut left = 0;
    while events.blocking_recv().is_some() {
        left += 1;
    }
    assert_eq!(left, 8);
    code
}

const LONG_BYTES: usize = 100 << 10;
const LONG_COUNT: u64 = 400;

async fn talks_at_length(worker: Worker) -> Result<(), std::io::Error> {
    let long = "x".repeat(LONG_BYTES);
    for _ in 0..LONG_COUNT {
        worker.send(&long).map_err(std::io::Error::other)?;
        worker.flush().await.map_err(std::io::Error::other)?;
    }
    Ok(())
}

fn who_never_reads_keeps_no_more_than_there_is_room_for() -> ExitCode {
    let builder = builder().workers(Workers::Count(1)).restart(RestartWhen::Never).stays(false);
    let (cluster, mut events) = start(builder, talks_at_length);
    let code = cluster.wait();
    let (mut kept, mut lost) = (0, 0);
    while let Some(event) = events.blocking_recv() {
        match event {
            Event::Message { .. } => kept += 1,
            Event::Alert(Alert::MessagesLost { count, .. }) => lost += count,
            _ => {}
        }
    }
    assert_eq!(kept + lost, LONG_COUNT);
    assert!((100..=(16 << 20) / LONG_BYTES as u64).contains(&kept), "{kept}");
    code
}

async fn fails(_: Worker) -> Result<(), std::io::Error> {
    Err(std::io::Error::other("no"))
}

fn giving_up_is_told() -> ExitCode {
    let (cluster, mut events) =
        start(builder().workers(Workers::Count(1)).max_restarts(2).stays(false), fails);
    block_on(async {
        let (slot, why) = until(&mut events, |event| match event {
            Event::GaveUp { slot, why } => Some((slot, why)),
            _ => None,
        })
        .await;
        assert_eq!((slot, why.as_str()), (0, "2 unstable exits within 1 min 0 s"));
    });
    cluster.wait()
}

fn every_message_is_told_once() -> ExitCode {
    let (cluster, mut events) = start(builder().workers(Workers::None).stays(true), talks);
    block_on(async {
        let worker = cluster.fork_with([("ROLE", "talker")]).await.unwrap();
        let mut heard = Vec::new();
        until(&mut events, |event| {
            if let Event::Message { message, .. } = &event {
                heard.push(message.parse::<u32>().unwrap());
            }
            matches!(event, Event::Exit { worker: it, .. } if it == worker).then_some(())
        })
        .await;
        assert_eq!(heard, (0..100).collect::<Vec<_>>());
        cluster.kill().await;
    });
    ExitCode::SUCCESS
}

#[cfg(feature = "stream")]
fn events_are_a_stream_too() -> ExitCode {
    let builder = builder().workers(Workers::Count(1)).restart(RestartWhen::Never).stays(false);
    let (cluster, events) = start(builder, talks);
    let mut stream = std::pin::pin!(events.into_stream());
    let count = block_on(async {
        let mut count = 0;
        while let Some(event) = std::future::poll_fn(|cx| Stream::poll_next(stream.as_mut(), cx)).await {
            count += u32::from(matches!(event, Event::Message { .. }));
        }
        count
    });
    assert_eq!(count, 100);
    cluster.wait()
}

#[cfg(not(feature = "stream"))]
fn events_are_a_stream_too() -> ExitCode {
    ExitCode::SUCCESS
}
