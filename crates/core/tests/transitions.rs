//! Every phase × everything that can happen to an instance, as one table that is reviewed as a whole.
//!
//! Each phase is built through the public API, then one thing happens. A dash says that nothing changes.

use std::fmt::Write;

use oxherd_core::{
    AppId, AppSpec, Distribution, Event, Exit, Fleet, InstanceId, Limits, Moment, Probe, Request, Scaling,
    Sockets, Span, SpawnFailure,
};

const FIRST: InstanceId = InstanceId { starts: 0, number: 1 };
const APP: AppId = AppId(0);
const LIMIT_BYTES: u64 = 100;

/// What happens to an instance.
#[derive(Clone, Copy, Debug)]
enum Fact {
    Spawned,
    SpawnFailed,
    Online,
    Listening,
    Parked,
    CannotPark,
    Ready,
    Withdrawn,
    Departing,
    ChannelClosed,
    Stalled,
    Resumed,
    Misbehaved,
    ErrorReported,
    Probed,
    Hung,
    /// Its memory is above the limit.
    Measured,
    /// The app was seen to be busy for the third time.
    Loaded,
    Exited,
    /// The app is stopped, and its doors are closed.
    Stop,
    /// Everything is killed.
    Kill,
    /// The next deadline passes.
    Timeout,
}

const FACTS: [Fact; 22] = [
    Fact::Spawned,
    Fact::SpawnFailed,
    Fact::Online,
    Fact::Listening,
    Fact::Parked,
    Fact::CannotPark,
    Fact::Ready,
    Fact::Withdrawn,
    Fact::Departing,
    Fact::ChannelClosed,
    Fact::Stalled,
    Fact::Resumed,
    Fact::Misbehaved,
    Fact::ErrorReported,
    Fact::Probed,
    Fact::Hung,
    Fact::Measured,
    Fact::Loaded,
    Fact::Exited,
    Fact::Stop,
    Fact::Kill,
    Fact::Timeout,
];

/// What kind of instance it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The only worker of its app.
    Plain,
    /// The same, with `wait_ready`.
    WaitReady,
    /// The same, asked from outside whether it serves.
    Probed,
    /// The same, lent its sockets.
    Universal,
    /// A standby beside a worker that serves.
    Standby,
    /// One of two successors; the other one boots.
    Successor,
}

/// Each phase, and how an instance comes to be in it.
const PHASES: [(&str, Kind, &[Fact]); 24] = [
    ("Spawning", Kind::Plain, &[]),
    ("Aborting (stopped before it was born)", Kind::Plain, &[Fact::Stop]),
    ("Starting, silent so far", Kind::Plain, &[Fact::Spawned]),
    ("Starting, online", Kind::Plain, &[Fact::Spawned, Fact::Online]),
    ("Starting, online, with wait_ready", Kind::WaitReady, &[Fact::Spawned, Fact::Online]),
    ("Serving Admitted, silent so far", Kind::Plain, &[Fact::Spawned, Fact::Timeout]),
    ("Serving Admitted, listening", Kind::Plain, &[Fact::Spawned, Fact::Online, Fact::Listening]),
    ("Serving Stalled", Kind::Plain, &[Fact::Spawned, Fact::Online, Fact::Listening, Fact::Stalled]),
    ("Withdrawing (stopped)", Kind::Plain, &[Fact::Spawned, Fact::Online, Fact::Listening, Fact::Stop]),
    ("Draining (stopped)", Kind::Plain, &[Fact::Spawned, Fact::Listening, Fact::Stop, Fact::Withdrawn]),
    ("Leaving (its channel closed)", Kind::Plain, &[Fact::Spawned, Fact::Listening, Fact::ChannelClosed]),
    ("Terminating (stopped)", Kind::Plain, &[Fact::Spawned, Fact::Listening, Fact::Stop, Fact::Timeout]),
    (
        "Killing (stopped)",
        Kind::Plain,
        &[Fact::Spawned, Fact::Listening, Fact::Stop, Fact::Timeout, Fact::Timeout],
    ),
    ("Starting, to be probed", Kind::Probed, &[Fact::Spawned, Fact::Online]),
    ("Starting, probed", Kind::Probed, &[Fact::Spawned, Fact::Listening]),
    ("Starting, lent its sockets", Kind::Universal, &[Fact::Spawned]),
    ("Serving Admitted, lent its sockets", Kind::Universal, &[Fact::Spawned, Fact::Listening]),
    (
        "Withdrawing (stopped), lent its sockets",
        Kind::Universal,
        &[Fact::Spawned, Fact::Listening, Fact::Stop],
    ),
    ("Spawning, a standby", Kind::Standby, &[]),
    ("Starting, a standby", Kind::Standby, &[Fact::Spawned]),
    ("Parked, a standby", Kind::Standby, &[Fact::Spawned, Fact::Parked]),
    (
        "Leaving (its channel closed), a standby",
        Kind::Standby,
        &[Fact::Spawned, Fact::Online, Fact::Parked, Fact::ChannelClosed],
    ),
    ("Starting, one of a batch", Kind::Successor, &[Fact::Spawned]),
    ("Parked, one of a batch", Kind::Successor, &[Fact::Spawned, Fact::Parked]),
];

struct Bench {
    fleet: Fleet,
    id: InstanceId,
    now: Moment,
}

impl Bench {
    fn new(kind: Kind, path: &[Fact]) -> Self {
        let mut spec = AppSpec { restart_delay: Some(Span::from_secs(1)), ..AppSpec::new("app", "program") };
        spec.wait_ready = kind == Kind::WaitReady;
        spec.max_memory_restart = Some(LIMIT_BYTES);
        let second = Span::from_secs(1);
        let probe = Probe { url: "tcp://localhost:80".into(), interval: second, timeout: second };
        spec.ready_probe = (kind == Kind::Probed).then_some(probe);
        spec.standby = u32::from(kind == Kind::Standby);
        if kind == Kind::Universal {
            (spec.sockets, spec.distribution) = (Sockets::Universal, Distribution::Kernel);
        }
        if kind == Kind::Successor {
            (spec.instances, spec.parallel) = (2, 2);
        }
        spec.scaling = Some(Scaling { min: spec.instances, max: spec.instances + 1 });
        let fleet = Fleet::new(Limits::default(), "boot", 0);
        let mut bench = Self { fleet, id: FIRST, now: Moment::from_millis(0) };
        let serving = match kind {
            Kind::Plain | Kind::WaitReady | Kind::Probed | Kind::Universal => 0,
            Kind::Standby => 1,
            Kind::Successor => spec.instances,
        };
        bench.ask(Request::Start { spec: Box::new(spec) });
        for _ in 0..serving {
            bench.let_happen(Fact::Listening);
            bench.id.number += 1;
        }
        if kind == Kind::Successor {
            bench.ask(Request::Reload { app: APP, spec: None });
        }
        path.iter().for_each(|fact| bench.let_happen(*fact));
        bench.drain();
        bench
    }

    fn ask(&mut self, request: Request) {
        self.fleet.handle_request(request, self.now).expect("the request is accepted");
    }

    fn let_happen(&mut self, fact: Fact) {
        let instance = self.id;
        let event = match fact {
            Fact::Spawned => Event::Spawned { instance },
            Fact::SpawnFailed => {
                let cause = SpawnFailure { message: "cannot run program".into(), lasting: true };
                Event::SpawnFailed { instance, cause }
            }
            Fact::Online => Event::Online { instance },
            Fact::Listening => Event::Listening { instance, address: ":80".into() },
            Fact::Parked => Event::Parked { instance },
            Fact::CannotPark => Event::CannotPark { instance },
            Fact::Ready => Event::Ready { instance },
            Fact::Withdrawn => Event::Withdrawn { instance },
            Fact::Departing => Event::Departing { instance },
            Fact::ChannelClosed => Event::ChannelClosed { instance },
            Fact::Stalled => Event::Stalled { instance },
            Fact::Resumed => Event::Resumed { instance },
            Fact::Misbehaved => Event::Misbehaved { instance, what: "garbage".into() },
            Fact::ErrorReported => Event::ErrorReported { instance, error: "oh".into() },
            Fact::Probed => Event::Probed { instance },
            Fact::Hung => Event::Hung { instance },
            Fact::Measured => Event::Measured { instance, memory: Some(LIMIT_BYTES + 1), requests: None },
            Fact::Loaded => return self.be_busy(),
            Fact::Exited => Event::Exited { instance, exit: Exit::Code(1) },
            Fact::Stop => {
                self.ask(Request::Stop { app: APP });
                Event::DoorsClosed { app: APP }
            }
            Fact::Kill => return self.ask(Request::Kill),
            Fact::Timeout => return self.pass_time(),
        };
        self.fleet.handle_event(event, self.now);
    }

    fn be_busy(&mut self) {
        for _ in 0..3 {
            self.fleet.handle_event(Event::Loaded { app: APP, busy: 1000, waiting: 0 }, self.now);
        }
    }

    fn pass_time(&mut self) {
        if let Some(next) = self.fleet.poll_timeout() {
            self.now = next;
            self.fleet.handle_timeout(next);
        }
    }

    fn phase(&self) -> String {
        let image = serde_json::to_value(self.fleet.image()).expect("an image is JSON");
        let instances = image["state"]["instances"].as_array().expect("instances are a list");
        let of_id = |it: &&serde_json::Value| it["place"]["instance"]["number"] == self.id.number;
        instances.iter().find(of_id).map_or("gone".into(), |it| self.name(&it["phase"]))
    }

    /// `serving admitted`, `draining until +10000`.
    fn name(&self, phase: &serde_json::Value) -> String {
        let Some((name, data)) = phase.as_object().and_then(|it| it.iter().next()) else {
            return phase.as_str().expect("a phase has a name").into();
        };
        let after = |moment: &serde_json::Value| {
            moment.as_u64().map(|at| format!("+{}", Moment::from_millis(at).since(self.now).as_millis()))
        };
        match data.as_object() {
            None => format!("{name} {}", data.as_str().expect("a standing has a name")),
            Some(fields) => {
                let moments = fields.iter().filter_map(|(key, at)| Some(format!("{key} {}", after(at)?)));
                format!("{name} {}", moments.collect::<Vec<_>>().join(" "))
            }
        }
    }

    fn drain(&mut self) -> String {
        let word = |text: String| text.split([' ', '{']).next().unwrap_or_default().to_string();
        let mut words = Vec::new();
        while let Some(action) = self.fleet.poll_action() {
            words.push(format!("!{}", word(format!("{action:?}"))));
        }
        while let Some(notice) = self.fleet.poll_notice() {
            words.push(word(format!("{notice:?}")));
        }
        words.join(" ")
    }
}

#[test]
fn every_phase_and_everything_that_can_happen_to_it() {
    let mut table = String::from("!Word is an action, Word is a notice\n");
    for (title, kind, path) in PHASES {
        let start = Bench::new(kind, path);
        writeln!(table, "\n{title}: {}", start.phase()).expect("a string takes all");
        for fact in FACTS {
            let mut bench = Bench::new(kind, path);
            let before = bench.phase();
            bench.let_happen(fact);
            let (phase, words) = (bench.phase(), bench.drain());
            let next = if phase == before { "-" } else { phase.as_str() };
            let name = format!("{fact:?}");
            writeln!(table, "{}", format!("    {name:<15}{next:<36}{words}").trim_end()).expect("as above");
        }
    }
    insta::assert_snapshot!("transitions", table);
}
