//! Apps as Kubernetes Deployments: `oxherd runtime` is the main process of the container. Data in, YAML out.
//!
//! An app of a file is run by that file, which is in the image: nothing of its environment is written here. Of any other
//! app only what was asked for goes into the environment: never what the caller's shell has.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use oxherd_engine::core::AppSpec;

use super::flags::flags;

/// Time for the container's endpoints to be forgotten before workers drain.
const PRE_STOP_SECS: u64 = 5;
/// Beyond what workers may take.
const SPARE_SECS: u64 = 5;
/// A label's value and a container's name are no longer.
const NAME_CHARS_MAX: usize = 63;

/// What stands in no configuration.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    pub(crate) image: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) probe_port: u16,
}

/// An app, and what the container is to run.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) spec: AppSpec,
    pub(crate) file: Option<FileInImage>,
}

/// The file that the app is in, where the image has it.
#[derive(Clone, Debug)]
pub(crate) struct FileInImage {
    pub(crate) path: String,
    /// Which of its environments was chosen.
    pub(crate) env: Option<String>,
    /// Whether it has no other app.
    pub(crate) is_alone: bool,
}

/// A document for each app.
pub(crate) fn deployments(members: &[Member], choices: &Choices) -> String {
    let mut taken = BTreeSet::new();
    let documents: Vec<String> = members
        .iter()
        .map(|member| deployment(member, &free_name(&member.spec.name, &mut taken), choices))
        .collect();
    documents.join("---\n")
}

/// The port at which the app serves, as far as it is known.
pub(crate) fn port(spec: &AppSpec, choices: &Choices) -> Option<u16> {
    let of_env = || spec.upkeep.about.env.get("PORT").and_then(|port| port.parse().ok());
    choices.port.or_else(of_env).filter(|port| *port != 0)
}

fn deployment(member: &Member, name: &str, choices: &Choices) -> String {
    let spec = &member.spec;
    let image = choices.image.clone().unwrap_or_else(|| format!("REGISTRY/{name}:TAG"));
    let probes = format!("0.0.0.0:{}", choices.probe_port);
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: {quoted_name}
  labels:
    app.kubernetes.io/name: {quoted_name}
spec:
  replicas: 1
  selector:
    matchLabels:
      app.kubernetes.io/name: {quoted_name}
  strategy:
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  template:
    metadata:
      labels:
        app.kubernetes.io/name: {quoted_name}
    spec:
      terminationGracePeriodSeconds: {total}
      containers:
        - name: {quoted_name}
          image: {image}
          command: [\"oxherd\", \"runtime\", \"--raw\", \"--probes\", \"{probes}\"]
          args: [{args}]
{env}{ports}          livenessProbe:
            httpGet: {{ path: /livez, port: probes }}
            periodSeconds: 10
            timeoutSeconds: 6
            failureThreshold: 3
          readinessProbe:
            httpGet: {{ path: /readyz, port: probes }}
            periodSeconds: 2
          startupProbe:
            httpGet: {{ path: /readyz, port: probes }}
            periodSeconds: 1
            failureThreshold: {startup}
          lifecycle:
            preStop:
              exec:
                command: [\"sleep\", \"{PRE_STOP_SECS}\"]
{resources}",
        // A name such as 8080 is no number.
        quoted_name = text(name),
        total = PRE_STOP_SECS + grace_secs(spec) + SPARE_SECS,
        image = text(&image),
        args = args(member).iter().map(|word| text(&plain(word))).collect::<Vec<_>>().join(", "),
        env = environment(member),
        ports = ports(spec, choices),
        startup = spec.listen_timeout.as_millis().div_ceil(1000).max(1),
        resources = resources(spec),
    )
}

/// What workers may take to end.
fn grace_secs(spec: &AppSpec) -> u64 {
    spec.drain_timeout.as_millis().saturating_add(spec.kill_timeout.as_millis()).div_ceil(1000)
}

fn args(member: &Member) -> Vec<String> {
    let Some(file) = &member.file else { return flags(&member.spec).words };
    let mut args = vec![file.path.clone()];
    if !file.is_alone {
        args.push(format!("--only={}", member.spec.name));
    }
    args.extend(file.env.iter().map(|name| format!("--env={name}")));
    args
}

fn environment(member: &Member) -> String {
    let asked = &member.spec.upkeep.about.env;
    if asked.is_empty() || member.file.is_some() {
        return String::new();
    }
    let mut lines = String::from("          env:\n");
    for (name, value) in asked {
        lines += &format!("            - {{ name: {}, value: {} }}\n", text(name), text(&plain(value)));
    }
    lines
}

fn ports(spec: &AppSpec, choices: &Choices) -> String {
    let mut lines = String::from("          ports:\n");
    if let Some(port) = port(spec, choices) {
        lines += &format!("            - {{ name: http, containerPort: {port} }}\n");
    }
    lines + &format!("            - {{ name: probes, containerPort: {} }}\n", choices.probe_port)
}

/// All workers at their limit, and the keeper with its daemon.
fn resources(spec: &AppSpec) -> String {
    const OWN_BYTES: u64 = 32 << 20;
    match spec.max_memory_restart {
        None => String::new(),
        Some(limit) => {
            let most = spec.scaling.map_or(spec.instances, |scaling| scaling.max);
            // Workers' successors live beside them, and so do those that wait.
            let workers = u64::from(most) + u64::from(spec.parallel.min(most)) + u64::from(spec.standby);
            let mib = (limit.saturating_mul(workers).saturating_add(OWN_BYTES)).div_ceil(1 << 20);
            format!("          resources:\n            limits: {{ memory: {mib}Mi }}\n")
        }
    }
}

/// A name as Kubernetes wants one, that no other app has.
fn free_name(name: &str, taken: &mut BTreeSet<String>) -> String {
    let first = label(name, NAME_CHARS_MAX);
    let numbered = |number: u32| {
        let end = format!("-{number}");
        label(name, NAME_CHARS_MAX - end.len()) + &end
    };
    let mut names = std::iter::once(first).chain((2..).map(numbered));
    let free = names.find(|name| !taken.contains(name)).expect("numbers do not end");
    taken.insert(free.clone());
    free
}

fn label(name: &str, chars_max: usize) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let fitting: String = name.chars().map(fit).collect();
    let cut: String = fitting.trim_matches('-').chars().take(chars_max).collect();
    let name = cut.trim_end_matches('-');
    if name.is_empty() { "app".into() } else { name.into() }
}

/// A text in which Kubernetes finds no `$(VARIABLE)`.
fn plain(text: &str) -> String {
    text.replace('$', "$$")
}

/// A text of YAML: JSON's are, but for what YAML takes for the end of a line or refuses.
fn text(text: &str) -> String {
    let is_risky = |c: char| {
        matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let mut out = String::new();
    for c in serde_json::Value::from(text).to_string().chars() {
        match is_risky(c) {
            true => drop(write!(out, "\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use oxherd_engine::core::Span;

    use super::*;

    fn choices() -> Choices {
        Choices { image: None, port: None, probe_port: 9614 }
    }

    #[test]
    fn an_app_is_a_deployment() {
        let mut spec = AppSpec::new("Shop Front", "/usr/bin/node");
        spec.instances = 2;
        spec.max_memory_restart = Some(256 << 20);
        spec.kill_timeout = Span::from_millis(1600);
        spec.cwd = "/home/ox/shop".into();
        spec.upkeep.about.script = "/home/ox/shop/server.js".into();
        spec.upkeep.about.interpreter = "node".into();
        spec.upkeep.about.args = vec!["--say".into(), "it's \"so\", $(HOME)".into()];
        spec.upkeep.about.env.insert("PORT".into(), "3000".into());
        spec.env.push(("SECRET".into(), "of the shell".into()));
        let file = FileInImage { path: "apps.json".into(), env: Some("production".into()), is_alone: false };
        let of_file = Member { spec: spec.clone(), file: Some(file) };
        let text = deployments(&[Member { spec, file: None }, of_file], &choices());
        assert!(!text.contains("SECRET"));
        insta::assert_snapshot!("kubernetes", text);
    }

    #[test]
    fn names_are_labels_of_their_own() {
        let mut taken = BTreeSet::new();
        let mut name = |name: &str| free_name(name, &mut taken);
        assert_eq!(
            ["Shop Front", "shop-front", "shop.front"].map(&mut name),
            ["shop-front", "shop-front-2", "shop-front-3"]
        );
        assert_eq!(["日本", "_"].map(&mut name), ["app", "app-2"]);
        let long = "a".repeat(62) + "--b";
        assert_eq!([&*long, &*long].map(&mut name), ["a".repeat(62), "a".repeat(61) + "-2"]);
    }
}
