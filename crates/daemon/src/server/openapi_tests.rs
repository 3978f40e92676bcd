//! The OpenAPI document against the server: the same routes, the same answers, the same properties.

use std::collections::{BTreeMap, BTreeSet};

use oxherd::api::{
    Accepted, AcceptedChange, ActionReply, AdjustApp, AppView, ChangeView, Dropped, EnvView, Herd, LogLine,
    NewsItem, OutputStream, Pong, Problem, Reached, ReachedApp, RecycleApp, ReloadApp, RestartApp, ScaleApp,
    SendLine, SendMessage, SignalApp, SlotView, Snapshot, SpecView, Specs, StandbyView, StartApp, StartApps,
    TriggerApp, Triggered, Upgrade, WorkerView,
};
use oxherd_core::{
    About, AppId, AppSpec, ChangeId, ChangeOutcome, Distribution, Exit, Generation, GiveUp, InstanceId,
    ListenAt, LogSpec, Notice, Owner, Place, Probe, RecycleReason, ReloadFailure, ReloadStatus, RestartWhen,
    RetireReason, Rotate, Scaling, Serialization, Signal, Slot, Sockets, Span, SpawnFailure, Status,
    Strategy, Upkeep, WatchSpec,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::routes;

fn document() -> Value {
    serde_json::from_str(include_str!("../../../../docs/openapi.json")).unwrap()
}

#[test]
fn the_document_has_the_server_s_routes_and_no_others() {
    let document = document();
    let mut described = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let answers: BTreeSet<String> =
                operation["responses"].as_object().unwrap().keys().cloned().collect();
            described.insert((path.clone(), method.clone()), answers);
        }
    }
    let status = |status: &u16| status.to_string();
    let served: BTreeMap<(String, String), BTreeSet<String>> = routes()
        .iter()
        .map(|route| {
            let answers = route.answers.iter().map(status).chain(["default".into()]).collect();
            ((route.path.into(), route.method.into()), answers)
        })
        .collect();
    assert_eq!(described, served);
}

#[test]
fn every_operation_has_its_own_name_and_its_parameters() {
    let document = document();
    let mut names = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for operation in methods.as_object().unwrap().values() {
            assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let parameters = parameters.iter().map(|parameter| resolve(&document, parameter));
            let in_path: Vec<_> =
                parameters.filter(|it| it["in"] == "path").map(|it| it["name"].clone()).collect();
            let expected: Vec<_> = path.split(['{', '}']).skip(1).step_by(2).collect();
            assert_eq!(in_path, expected, "{path}");
        }
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let document = document();
    let mut used = BTreeSet::new();
    walk(&document, &mut |value| {
        if let Some(reference) = value.get("$ref") {
            assert!(!resolve(&document, value).is_null(), "{reference}");
            used.insert(reference.as_str().unwrap().to_owned());
        }
    });
    let schemas = document["components"]["schemas"].as_object().unwrap();
    // Events are described in words: OpenAPI has no way to say what a stream is made of.
    let events = ["NewsItem", "LogLine", "Dropped"];
    for name in schemas.keys().filter(|name| !events.contains(&name.as_str())) {
        assert!(used.contains(&format!("#/components/schemas/{name}")), "{name} is not used");
    }
}

#[test]
fn answers_have_exactly_the_properties_that_the_document_names() {
    check("Problem", &Problem { error: "cannot".into() });
    check("Pong", &pong());
    check(
        "Herd",
        &Herd { apps: vec![app_view()], daemon_memory: 1, uptime_ms: 2, troubles: vec!["no".into()] },
    );
    check("AppView", &app_view());
    let accepted = AcceptedChange { change: ChangeId(1), app: AppId(2), name: "web".into() };
    check("Accepted", &Accepted { changes: vec![accepted] });
    for outcome in outcomes() {
        check("ChangeView", &ChangeView { change: ChangeId(1), outcome: Some(outcome) });
    }
    check("StartApp", &StartApp { spec: spec() });
    check("StartApps", &StartApps { specs: vec![spec()] });
    check("ReloadApp", &ReloadApp { spec: Some(spec()) });
    check("RestartApp", &RestartApp { spec: Some(spec()) });
    check("AdjustApp", &AdjustApp { spec: spec() });
    check("ScaleApp", &ScaleApp { instances: 3 });
    check("RecycleApp", &RecycleApp { slot: Slot(2) });
    check("Upgrade", &Upgrade { program: Some("/opt/oxherd".into()) });
    check("SignalApp", &SignalApp { signal: "SIGUSR2".into(), slot: Some(Slot(1)) });
    check("SendLine", &SendLine { line: "hi".into(), slot: Some(Slot(1)) });
    let message = serde_json::value::RawValue::from_string("{\"a\":1}".into()).unwrap();
    check("SendMessage", &SendMessage { message, slot: Some(Slot(1)) });
    let reached = ReachedApp { app: AppId(0), name: "web".into(), count: 4 };
    check("Reached", &Reached { apps: vec![reached] });
    let value = serde_json::value::RawValue::from_string("{\"a\":1}".into()).unwrap();
    let reply = ActionReply { app: AppId(0), name: "web".into(), slot: Slot(1), value };
    let apps = vec![ReachedApp { app: AppId(0), name: "web".into(), count: 4 }];
    check("Triggered", &Triggered { apps, replies: vec![reply] });
    let (action, params, slot) = ("clear".into(), Some("all".into()), Some(Slot(1)));
    check("TriggerApp", &TriggerApp { action, params, slot, wait_ms: 3000 });
    check("Specs", &Specs { apps: vec![SpecView { app: AppId(0), spec: spec() }] });
    let env = vec![("PATH".into(), "/bin".into())];
    check("EnvView", &EnvView { app: AppId(0), name: "web".into(), slot: Slot(0), pid: Some(1), env });
    check("Snapshot", &Snapshot { file: "/home/me/.oxherd/saved.json".into(), apps: 2 });
    check("Dropped", &Dropped { count: 3 });
    for stream in [OutputStream::Stdout, OutputStream::Stderr] {
        let (name, text) = ("web".into(), "hello".into());
        let (slot, number, at_ms) = (Some(Slot(1)), Some(3), Some(1));
        let line =
            LogLine { app: AppId(0), name, slot, stream, number, at_ms, text, goes_on: true, more: true };
        check("LogLine", &line);
    }
    for status in [
        Status::Starting,
        Status::Standby,
        Status::Online,
        Status::Stopping,
        Status::Stopped,
        Status::WaitingRestart,
        Status::Errored,
    ] {
        check("Status", &status);
    }
}

#[test]
fn every_notice_is_in_the_document() {
    let notices = notices();
    let told: BTreeSet<String> = notices
        .iter()
        .map(|notice| {
            let item = NewsItem { notice: notice.clone(), pid: Some(1), name: Some("web".into()), at_ms: 1 };
            check("NewsItem", &item);
            serde_json::to_value(notice).unwrap()["notice"].as_str().unwrap().to_owned()
        })
        .collect();
    let document = document();
    let variants = document["components"]["schemas"]["Notice"]["oneOf"].as_array().unwrap();
    let described =
        variants.iter().map(|it| it["properties"]["notice"]["const"].as_str().unwrap().to_owned());
    assert_eq!(described.collect::<BTreeSet<_>>(), told);
}

/// The value fits the schema, and all that the schema names is in it.
fn check<T: Serialize>(schema: &str, value: &T) {
    let document = document();
    let value = serde_json::to_value(value).unwrap();
    let reference = json!({"$ref": format!("#/components/schemas/{schema}")});
    if let Err(why) = fit(&document, &reference, &value) {
        panic!("{schema}: {why}\n{value:#}");
    }
}

fn fit(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = resolve(document, schema);
    if let Some(choices) = schema.get("oneOf") {
        let tried: Vec<_> = choices.as_array().unwrap().iter().map(|it| fit(document, it, value)).collect();
        let fitting = tried.iter().filter(|it| it.is_ok()).count();
        return if fitting == 1 { Ok(()) } else { Err(format!("{fitting} choices fit {value}: {tried:?}")) };
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return Err(format!("{value} is not {}", schema["const"]));
    }
    if schema.get("enum").is_some_and(|allowed| !allowed.as_array().unwrap().contains(value)) {
        return Err(format!("{value} is not in {}", schema["enum"]));
    }
    fit_type(&schema, value)?;
    match value {
        Value::Object(_) => fit_object(document, &schema, value),
        Value::Array(items) => {
            let fixed = schema["prefixItems"].as_array();
            let of = |index: usize| fixed.and_then(|fixed| fixed.get(index)).unwrap_or(&schema["items"]);
            items.iter().enumerate().try_for_each(|(index, item)| fit(document, of(index), item))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn fit_type(schema: &Value, value: &Value) -> Result<(), String> {
    let kinds: Vec<&str> = match value {
        Value::Null => vec!["null"],
        Value::Bool(_) => vec!["boolean"],
        Value::Number(number) if number.is_f64() => vec!["number"],
        Value::Number(_) => vec!["integer", "number"],
        Value::String(_) => vec!["string"],
        Value::Array(_) => vec!["array"],
        Value::Object(_) => vec!["object"],
    };
    let is_kind = |wanted: &Value| kinds.iter().any(|kind| wanted == kind);
    let fits = match &schema["type"] {
        // Anything.
        Value::Null if schema.get("oneOf").is_none() && schema.get("const").is_none() => return Ok(()),
        Value::Null => schema.get("const").is_some(),
        Value::Array(several) => several.iter().any(is_kind),
        one => is_kind(one),
    };
    let high_enough = || match (schema["minimum"].as_f64(), value.as_f64()) {
        (Some(minimum), Some(value)) => value >= minimum,
        _ => true,
    };
    if fits && high_enough() { Ok(()) } else { Err(format!("{value} is no {}", schema["type"])) }
}

fn fit_object(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let found = value.as_object().unwrap();
    if schema["additionalProperties"].is_object() {
        let of = &schema["additionalProperties"];
        return found.values().try_for_each(|value| fit(document, of, value));
    }
    let Some(properties) = schema["properties"].as_object() else { return Ok(()) };
    let described: BTreeSet<_> = properties.keys().collect();
    let told: BTreeSet<_> = found.keys().collect();
    if described != told {
        return Err(format!("properties {told:?}, in the document {described:?}"));
    }
    properties.iter().try_for_each(|(name, schema)| {
        fit(document, schema, &found[name]).map_err(|why| format!("{name}: {why}"))
    })
}

fn resolve(document: &Value, value: &Value) -> Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => {
            document.pointer(reference.strip_prefix('#').unwrap()).cloned().unwrap_or(Value::Null)
        }
        None => value.clone(),
    }
}

fn walk(value: &Value, visit: &mut impl FnMut(&Value)) {
    visit(value);
    match value {
        Value::Object(map) => map.values().for_each(|value| walk(value, visit)),
        Value::Array(items) => items.iter().for_each(|value| walk(value, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

fn pong() -> Pong {
    let (version, home) = ("1".into(), "/home/me/.oxherd".into());
    Pong {
        version,
        pid: 1,
        keeper_pid: 2,
        starts: 3,
        upgrades: 1,
        upgrade_failure: Some("why".into()),
        uptime_ms: 4,
        home,
    }
}

fn app_view() -> AppView {
    let (change, generation) = (ChangeId(3), Generation(2));
    AppView {
        app: AppId(0),
        name: "web".into(),
        namespace: "shop".into(),
        about: about(),
        distribution: Distribution::Handoff,
        strategy: Strategy::Weighted,
        weights: vec![3, 1],
        sockets: Sockets::ListenFds,
        ports: "80".parse().unwrap(),
        listen: vec![ListenAt { name: "web".into(), address: "/run/web.sock".into() }],
        standby: 1,
        generation,
        instances: 1,
        up: true,
        reload: Some(ReloadStatus { change, generation, replaced: 1 }),
        command: vec!["node".into()],
        cwd: "/".into(),
        watches: true,
        cron_at_ms: Some(1),
        out_file: "/a".into(),
        error_file: "/b".into(),
        both_file: Some("/c".into()),
        dropped_lines: 1,
        requests: 2,
        errors: 3,
        handed_over: 4,
        slots: vec![SlotView {
            slot: Slot(0),
            number: Some(3),
            status: Status::Online,
            restarts: 1,
            renewals: 2,
            unstable: 1,
            last_exit: Some(Exit::Code(1)),
            last_exit_at_ms: Some(1),
            created_at_ms: Some(1),
            out_file: "/a".into(),
            error_file: "/b".into(),
            both_file: Some("/c".into()),
            pid_file: Some("/d".into()),
            workers: vec![worker_view()],
        }],
        standbys: vec![StandbyView { slot: Slot(1), worker: worker_view() }],
    }
}

fn worker_view() -> WorkerView {
    WorkerView {
        instance: place().instance,
        worker: 1,
        generation: Generation(1),
        pid: Some(1),
        status: Status::Online,
        uptime_ms: 1,
        started_at_ms: 1,
        addresses: vec!["127.0.0.1:3000".into()],
        cpu_percent: Some(1.5),
        memory: Some(1),
        requests: Some(1),
        errors: Some(1),
        connections: Some(1),
        handed_over: 1,
    }
}

fn spec() -> AppSpec {
    let mut spec = AppSpec::new("web", "node");
    spec.memory_warning = Some(100 << 20);
    spec.serialization = Serialization::Advanced;
    spec.args = vec!["server.js".into()];
    spec.env = vec![("PATH".into(), "/bin".into())];
    spec.restart_delay = Some(Span::from_secs(1));
    spec.max_errors = Some(10);
    (spec.distribution, spec.sockets) = (Distribution::Kernel, Sockets::ListenFds);
    spec.ports = "80,8000-8999".parse().unwrap();
    spec.listen = vec![ListenAt { name: "web".into(), address: "0.0.0.0:80".into() }];
    spec.standby = 1;
    (spec.restart, spec.strategy) = (RestartWhen::OnFailure, Strategy::Weighted);
    spec.weights = vec![3, 1];
    spec.stop_exit_codes = vec![0];
    spec.exp_backoff_restart_delay = Some(Span::from_millis(100));
    spec.max_memory_restart = Some(1 << 30);
    (spec.max_requests, spec.max_lifetime) = (Some(1000), Some(Span::from_secs(3600)));
    spec.scaling = Some(Scaling { min: 1, max: 4 });
    spec.ready_probe = Some(probe());
    spec.health_interval = Some(Span::from_secs(5));
    spec.owner = Some(Owner { uid: 33, gid: 33, groups: vec![4] });
    (spec.instance_var, spec.increment_var) = (Some("N".into()), Some("PORT".into()));
    spec.autostart = false;
    spec.upkeep = upkeep();
    spec
}

fn probe() -> Probe {
    let url = "http://127.0.0.1:3000/ready".into();
    Probe { url, interval: Span::from_secs(1), timeout: Span::from_secs(2) }
}

fn upkeep() -> Upkeep {
    let file = |path: &str| Some(path.to_owned());
    let rotate = Rotate { size: 1 << 20, every: Some(Span::from_secs(86_400)), keep: 3, gzip: false };
    let logs = LogSpec {
        out: file("/a"),
        err: file("/b"),
        both: file("/c"),
        per_slot: true,
        disabled: true,
        json: true,
        date_format: file("HH:mm"),
        rotate,
    };
    let watch =
        WatchSpec { paths: vec!["/srv".into()], ignore: vec!["*.tmp".into()], delay: Span::from_millis(50) };
    Upkeep {
        namespace: "shop".into(),
        logs,
        cron: file("0 3 * * *"),
        watch: Some(watch),
        pid_file: file("/d"),
        about: about(),
    }
}

fn about() -> About {
    let text = |text: &str| text.to_owned();
    About {
        script: text("/srv/server.js"),
        args: vec![text("--port")],
        interpreter: text("node"),
        interpreter_args: vec![text("--inspect")],
        version: Some(text("1.2.3")),
        file: Some(text("/srv/ecosystem.config.js")),
        env_name: Some(text("production")),
        env: BTreeMap::from([(text("PORT"), text("3000"))]),
        fork: true,
        filter_env: text("*SECRET*"),
    }
}

fn place() -> Place {
    let instance = InstanceId { starts: 0, number: 1 };
    Place { app: AppId(0), slot: Slot(0), generation: Generation(1), instance }
}

fn cause() -> SpawnFailure {
    SpawnFailure { message: "cannot".into(), lasting: true }
}

fn failures() -> [ReloadFailure; 4] {
    let slot = Slot(0);
    [
        ReloadFailure::NotReady { slot, after: Span::from_secs(1) },
        ReloadFailure::Died { slot, exit: Exit::Code(1) },
        ReloadFailure::CannotSpawn { slot, cause: cause() },
        ReloadFailure::Superseded,
    ]
}

fn outcomes() -> Vec<ChangeOutcome> {
    let plain = [ChangeOutcome::Done, ChangeOutcome::Failed, ChangeOutcome::Superseded];
    plain.into_iter().chain(failures().map(ChangeOutcome::ReloadAborted)).collect()
}

/// Every notice, with every variant of what is in it.
fn notices() -> Vec<Notice> {
    let (place, app, slot, generation, change) = (place(), AppId(0), Slot(0), Generation(1), ChangeId(1));
    let (after, addresses) = (Span::from_secs(1), vec!["127.0.0.1:3000".to_owned()]);
    let mut all = vec![
        Notice::Forked { place },
        Notice::SpawnFailed { place, cause: cause() },
        Notice::Online { place },
        Notice::Listening { place, address: "127.0.0.1:3000".into() },
        Notice::Ready { place, after },
        Notice::NotReady { place, after },
        Notice::Parked { place, standby: true },
        Notice::Promoted { place },
        Notice::StandbyRespawn { app, slot, delay: after },
        Notice::AllServing { app, workers: 1, addresses, after },
        Notice::Terminating { place, signal: Signal::TERM },
        Notice::Killing { place },
        Notice::Unkillable { place },
        Notice::Respawn { app, slot, unstable: 1, max: 2, delay: after },
        Notice::Finished { app, slot, exit: Exit::Code(0) },
        Notice::ErrorReported { place, error: "boom".into() },
        Notice::Stalled { place },
        Notice::Resumed { place },
        Notice::Misbehaved { place, what: "spoke".into() },
        Notice::ReloadStarted { app, generation, change },
        Notice::ReloadQueued { app, change },
        Notice::ReloadDone { app, generation, took: after },
        Notice::RecycleDone { app, slot, why: RecycleReason::Asked, took: after },
        Notice::Scaled { app, from: 1, to: 2 },
        Notice::Stopping { app },
        Notice::Stopped { app },
        Notice::Deleted { app },
        Notice::Adopted { place },
    ];
    let exits = [Exit::Code(1), Exit::Signal(Signal::KILL), Exit::Unknown];
    all.extend(exits.map(|exit| Notice::Exited { place, exit, uptime: after, wanted: true }));
    let reasons = [
        RetireReason::Replaced,
        RetireReason::ScaledDown,
        RetireReason::Stop,
        RetireReason::Restart,
        RetireReason::ReloadAborted,
        RetireReason::Errors,
        RetireReason::Asked,
        RetireReason::Unneeded,
        RetireReason::Stray,
        RetireReason::Interrupted,
    ];
    all.extend(reasons.map(|reason| Notice::Retiring { place, reason }));
    let ends = [
        GiveUp::UnstableExits { count: 1, window: after },
        GiveUp::Errors { count: 1, window: after },
        GiveUp::CannotSpawn(cause()),
    ];
    all.extend(ends.map(|why| Notice::GaveUp { app, slot, why }));
    all.extend(RecycleReason::ALL.map(|why| Notice::RecycleStarted { place, why }));
    all.extend(failures().map(|failure| Notice::RecycleFailed {
        app,
        slot,
        why: RecycleReason::Hung,
        failure,
    }));
    all.extend(failures().map(|why| Notice::ReloadAborted { app, generation, why, replaced: 1 }));
    all.extend(outcomes().into_iter().map(|outcome| Notice::Changed { change, outcome }));
    all
}
