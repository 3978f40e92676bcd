//! How workers become ready, stall, misbehave and leave by themselves.

use oxherd_core::{Event, Sockets};

use crate::script::{app, app_with, id, ms};

#[test]
fn all_serving_is_said_once_all_do() {
    app(3)
        .start()
        .serves(1)
        .serves(2)
        .told([])
        .at(300)
        .serves(3)
        .told(["all 3 serve [:80] after 300 ms", "change 1 done"])
        .listening(3)
        .told([]);
}

#[test]
fn with_wait_ready_listening_is_not_enough() {
    app_with(1, |spec| spec.wait_ready = true)
        .start()
        .serves(1)
        .at(20_000)
        .did(["spawn 1 s0 g1"])
        .ready(1)
        .did(["admit 1"])
        .told(["all 1 serve [:80] after 20 s", "change 1 done"]);
}

#[test]
fn a_first_start_that_takes_long_is_only_told() {
    app_with(1, |spec| spec.wait_ready = true)
        .start()
        .spawned(1)
        .at(100_000)
        .told(["1 not ready after 30 s"])
        .ready(1)
        .told(["change 1 done"])
        .at(100_250)
        .told(["all 1 serve [] after 1 min 40 s"]);
}

#[test]
fn a_program_that_never_listens_is_ready_by_age() {
    app_with(2, |spec| spec.sockets = Sockets::None)
        .start()
        .spawned(1)
        .spawned(2)
        .at(999)
        .told([])
        .at(1000)
        .did(["spawn 1 s0 g1", "spawn 2 s1 g1", "admit 1", "admit 2"])
        .told(["all 2 serve [] after 1 s", "change 1 done"])
        .stop()
        .doors_closed()
        .did(["close doors", "withdraw 1", "SIGTERM 1", "withdraw 2", "SIGTERM 2"]);
}

#[test]
fn once_one_listens_age_alone_does_not_count() {
    app(2)
        .start()
        .spawned(1)
        .spawned(2)
        .at(500)
        .listening(1)
        .at(5000)
        .told([])
        .listening(2)
        .told(["all 2 serve [:80] after 5 s", "change 1 done"]);
}

#[test]
fn who_listens_after_it_counted_by_age_is_told_again() {
    app(1)
        .start()
        .spawned(1)
        .at(1000)
        .told(["all 1 serve [] after 1 s", "change 1 done"])
        .at(1500)
        .listening(1)
        .told(["all 1 serve [:80] after 1.5 s"]);
}

#[test]
fn a_stalled_worker_gets_nothing_until_it_reads_again() {
    app(1)
        .up()
        .event(Event::Stalled { instance: id(1) })
        .event(Event::Stalled { instance: id(1) })
        .did(["withdraw 1"])
        .withdrawn(1)
        .did([])
        .event(Event::Resumed { instance: id(1) })
        .did(["admit 1"])
        .told(["1 stalled", "1 resumed"]);
}

#[test]
fn a_stall_before_readiness_is_remembered() {
    app(1)
        .start()
        .spawned(1)
        .event(Event::Stalled { instance: id(1) })
        .listening(1)
        .did(["spawn 1 s0 g1"])
        .event(Event::Resumed { instance: id(1) })
        .did(["admit 1"]);
}

#[test]
fn a_worker_that_breaks_the_protocol_is_killed_and_replaced() {
    app(1)
        .up()
        .at(2000)
        .event(Event::Misbehaved { instance: id(1), what: "garbage".into() })
        .did(["withdraw 1", "kill 1"])
        .exits(1, 137)
        .did(["sweep 1", "spawn 2 s0 g1"]);
}

#[test]
fn a_worker_that_leaves_by_itself_is_drained_and_replaced() {
    app(1)
        .up()
        .at(2000)
        .event(Event::Departing { instance: id(1) })
        .did(["withdraw 1"])
        .event(Event::ChannelClosed { instance: id(1) })
        .exits(1, 0)
        .did(["sweep 1", "spawn 2 s0 g1"])
        .told(["respawn s0 0/16 in 0 ms"]);
}

#[test]
fn a_worker_without_its_channel_gets_a_moment_to_end() {
    app(1)
        .up()
        .at(2000)
        .event(Event::ChannelClosed { instance: id(1) })
        .at(2199)
        .did(["withdraw 1"])
        .at(2200)
        .did(["SIGTERM 1"]);
}

#[test]
fn a_silent_program_may_close_its_channel() {
    app(1)
        .start()
        .spawned(1)
        .event(Event::ChannelClosed { instance: id(1) })
        .at(1000)
        .did(["spawn 1 s0 g1", "admit 1"]);
}

#[test]
fn news_of_a_birth_may_come_last() {
    app(1).start().online(1).listening(1).spawned(1).did(["spawn 1 s0 g1", "admit 1"]);
}

#[test]
fn spans_of_nothing_do_not_keep_the_timer_busy() {
    app_with(1, |spec| (spec.drain_timeout, spec.kill_timeout, spec.min_uptime) = (ms(0), ms(0), ms(0)))
        .up()
        .at(50)
        .stop()
        .doors_closed()
        .at(50)
        .did(["close doors", "withdraw 1", "SIGTERM 1", "kill 1"]);
}

#[test]
fn other_apps_and_unknown_instances_change_nothing() {
    app(1).up().spawned(9).withdrawn(9).exits(9, 1).did([]).told([]);
}
