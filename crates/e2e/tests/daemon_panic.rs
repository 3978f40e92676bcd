//! A daemon that panics is replaced like one that was killed, and its log says of what it died.

use oxherd_e2e::deaths::{await_start_after, start_web};
use oxherd_e2e::{Chance, Clients, Failure, Home, Roll, http, turn};

#[test]
fn panics_of_the_daemon_cost_no_request() {
    let _turn = turn::alone();
    let home = Home::new();
    start_web(&home, "3");
    let mut chance = Chance::seeded();
    let workers = Roll::settled(&home, "web", 3);
    let clients = Clients::start(&home.address("web"));
    for thread in ["control", "traffic", "server"].into_iter().cycle().take(9) {
        clients.wait_more(20 + chance.below(150));
        let (_, _, starts) = home.ping().expect("a daemon");
        let place = format!("/v1/debug/panic/{thread}");
        // The answer may be lost in the panic.
        match http::try_once(&home.api(), "POST", &place, "", b"") {
            Ok(answer) => assert_eq!(answer.status, 202, "a build with debug assertions is needed"),
            Err(failure) => assert!(matches!(failure, Failure::EarlyEof | Failure::Reset), "{failure:?}"),
        }
        await_start_after(&home, starts);
        Roll::of(&home, "web").assert_untouched(&workers);
    }
    clients.wait_more(100);
    Roll::settled(&home, "web", 3).assert_untouched(&workers);
    let log = home.log();
    for of in
        ["planted on the control thread", "planted on the traffic thread", "planted on the server's thread"]
    {
        assert_eq!(log.matches(of).count(), 3, "{of}: {log}");
    }
    assert_eq!(log.matches("has ended (signal 6)").count(), 9, "{log}");
    clients.stop_unharmed("9 panics");
}
