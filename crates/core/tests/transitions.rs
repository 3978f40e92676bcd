//! Every phase × everything that can happen to an instance, as one table that is reviewed as a whole.
//!
//! Each phase is built through the public API, then one thing happens. A dash says that nothing changes.

use std::fmt::Write;

use oxherd_core::{
    AppId, AppSpec, Event, Exit, Fleet, InstanceId, Limits, Moment, Request, Span, SpawnFailure,
};

const ID: InstanceId = InstanceId { starts: 0, number: 1 };
const APP: AppId = AppId(0);

/// What happens to an instance.
#[derive(Clone, Copy, Debug)]
enum Fact {
    Spawned,
    SpawnFailed,
    Online,
    Listening,
    Ready,
    Withdrawn,
    Departing,
    ChannelClosed,
    Stalled,
    Resumed,
    Misbehaved,
    ErrorReported,
    Exited,
    /// The app is stopped, and its doors are closed.
    Stop,
    /// Everything is killed.
    Kill,
    /// The next deadline passes.
    Timeout,
}

const FACTS: [Fact; 16] = [
    Fact::Spawned,
    Fact::SpawnFailed,
    Fact::Online,
    Fact::Listening,
    Fact::Ready,
    Fact::Withdrawn,
    Fact::Departing,
    Fact::ChannelClosed,
    Fact::Stalled,
    Fact::Resumed,
    Fact::Misbehaved,
    Fact::ErrorReported,
    Fact::Exited,
    Fact::Stop,
    Fact::Kill,
    Fact::Timeout,
];

/// Each phase, and how an instance comes to be in it.
const PHASES: [(&str, bool, &[Fact]); 13] = [
    ("Spawning", false, &[]),
    ("Aborting (stopped before it was born)", false, &[Fact::Stop]),
    ("Starting, silent so far", false, &[Fact::Spawned]),
    ("Starting, online", false, &[Fact::Spawned, Fact::Online]),
    ("Starting, online, with wait_ready", true, &[Fact::Spawned, Fact::Online]),
    ("Serving Admitted, silent so far", false, &[Fact::Spawned, Fact::Timeout]),
    ("Serving Admitted, listening", false, &[Fact::Spawned, Fact::Online, Fact::Listening]),
    ("Serving Stalled", false, &[Fact::Spawned, Fact::Online, Fact::Listening, Fact::Stalled]),
    ("Withdrawing (stopped)", false, &[Fact::Spawned, Fact::Online, Fact::Listening, Fact::Stop]),
    ("Draining (stopped)", false, &[Fact::Spawned, Fact::Listening, Fact::Stop, Fact::Withdrawn]),
    ("Leaving (its channel closed)", false, &[Fact::Spawned, Fact::Listening, Fact::ChannelClosed]),
    ("Terminating (stopped)", false, &[Fact::Spawned, Fact::Listening, Fact::Stop, Fact::Timeout]),
    ("Killing (stopped)", false, &[Fact::Spawned, Fact::Listening, Fact::Stop, Fact::Timeout, Fact::Timeout]),
];

struct Bench {
    fleet: Fleet,
    now: Moment,
}

impl Bench {
    fn new(wait_ready: bool, path: &[Fact]) -> Self {
        let spec =
            AppSpec { wait_ready, restart_delay: Some(Span::from_secs(1)), ..AppSpec::new("app", "program") };
        let mut bench = Self { fleet: Fleet::new(Limits::default(), "boot", 0), now: Moment::from_millis(0) };
        bench.ask(Request::Start { spec: Box::new(spec) });
        path.iter().for_each(|fact| bench.let_happen(*fact));
        bench.drain();
        bench
    }

    fn ask(&mut self, request: Request) {
        self.fleet.handle_request(request, self.now).expect("the request is accepted");
    }

    fn let_happen(&mut self, fact: Fact) {
        let instance = ID;
        let event = match fact {
            Fact::Spawned => Event::Spawned { instance },
            Fact::SpawnFailed => {
                let cause = SpawnFailure { message: "cannot run program".into(), lasting: true };
                Event::SpawnFailed { instance, cause }
            }
            Fact::Online => Event::Online { instance },
            Fact::Listening => Event::Listening { instance, address: ":80".into() },
            Fact::Ready => Event::Ready { instance },
            Fact::Withdrawn => Event::Withdrawn { instance },
            Fact::Departing => Event::Departing { instance },
            Fact::ChannelClosed => Event::ChannelClosed { instance },
            Fact::Stalled => Event::Stalled { instance },
            Fact::Resumed => Event::Resumed { instance },
            Fact::Misbehaved => Event::Misbehaved { instance, what: "garbage".into() },
            Fact::ErrorReported => Event::ErrorReported { instance, error: "oh".into() },
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

    fn pass_time(&mut self) {
        if let Some(next) = self.fleet.poll_timeout() {
            self.now = next;
            self.fleet.handle_timeout(next);
        }
    }

    fn phase(&self) -> String {
        let image = serde_json::to_value(self.fleet.image()).expect("an image is JSON");
        let instances = image["state"]["instances"].as_array().expect("instances are a list");
        let of_id = |it: &&serde_json::Value| it["place"]["instance"]["number"] == ID.number;
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
    for (title, wait_ready, path) in PHASES {
        let start = Bench::new(wait_ready, path);
        writeln!(table, "\n{title}: {}", start.phase()).expect("a string takes all");
        for fact in FACTS {
            let mut bench = Bench::new(wait_ready, path);
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
