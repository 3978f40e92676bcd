//! Apps as Kubernetes Deployments: `oxherd runtime` is the main process of the container. Data in, YAML out.
//!
//! Only what was asked for goes into the environment: never what the caller's shell has.

use oxherd_engine::core::AppSpec;

/// Time for the container's endpoints to be forgotten before workers drain.
const PRE_STOP_SECS: u64 = 5;
/// Beyond what workers may take.
const SPARE_SECS: u64 = 5;

/// What stands in no configuration.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    pub(crate) image: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) probe_port: u16,
}

/// A document for each app.
pub(crate) fn deployments(specs: &[AppSpec], choices: &Choices) -> String {
    let documents: Vec<String> = specs.iter().map(|spec| deployment(spec, choices)).collect();
    documents.join("---\n")
}

fn deployment(spec: &AppSpec, choices: &Choices) -> String {
    let name = label(&spec.name);
    let image = choices.image.clone().unwrap_or_else(|| format!("REGISTRY/{name}:TAG"));
    let grace = (spec.drain_timeout.as_millis() + spec.kill_timeout.as_millis()).div_ceil(1000);
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  labels:
    app.kubernetes.io/name: {name}
spec:
  replicas: 1
  selector:
    matchLabels:
      app.kubernetes.io/name: {name}
  strategy:
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  template:
    metadata:
      labels:
        app.kubernetes.io/name: {name}
    spec:
      terminationGracePeriodSeconds: {total}
      containers:
        - name: {name}
          image: {image}
          args: [{args}]
{env}{ports}          livenessProbe:
            httpGet: {{ path: /livez, port: probes }}
            periodSeconds: 10
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
        total = PRE_STOP_SECS + grace + SPARE_SECS,
        image = text(&image),
        args = args(spec, choices).iter().map(|word| text(word)).collect::<Vec<_>>().join(", "),
        env = environment(spec),
        ports = ports(spec, choices),
        startup = spec.listen_timeout.as_millis().div_ceil(1000).max(1),
        resources = resources(spec),
    )
}

/// The command line of the container, after `oxherd`.
fn args(spec: &AppSpec, choices: &Choices) -> Vec<String> {
    let about = &spec.upkeep.about;
    let mut args: Vec<String> = ["runtime", "--raw", "--probes"].map(str::to_owned).to_vec();
    args.push(format!("0.0.0.0:{}", choices.probe_port));
    args.extend(["--name".into(), spec.name.clone(), "-i".into(), spec.instances.to_string()]);
    args.extend(["--drain-timeout".into(), format!("{}ms", spec.drain_timeout.as_millis())]);
    args.extend(["--kill-timeout".into(), format!("{}ms", spec.kill_timeout.as_millis())]);
    match about.script.as_str() {
        "" => {
            args.push("--".into());
            args.push(spec.program.clone());
            args.extend(spec.args.iter().cloned());
        }
        script => {
            args.push(script.into());
            if !about.args.is_empty() {
                args.push("--".into());
                args.extend(about.args.iter().cloned());
            }
        }
    }
    args
}

fn environment(spec: &AppSpec) -> String {
    let asked = &spec.upkeep.about.env;
    if asked.is_empty() {
        return String::new();
    }
    let mut lines = String::from("          env:\n");
    for (name, value) in asked {
        lines += &format!("            - {{ name: {}, value: {} }}\n", text(name), text(value));
    }
    lines
}

fn ports(spec: &AppSpec, choices: &Choices) -> String {
    let of_env = || spec.upkeep.about.env.get("PORT").and_then(|port| port.parse().ok());
    let mut lines = String::from("          ports:\n");
    if let Some(port) = choices.port.or_else(of_env) {
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
            // A worker's successor lives beside it.
            let workers = u64::from(spec.instances + spec.parallel);
            let mib = (limit.saturating_mul(workers).saturating_add(OWN_BYTES)).div_ceil(1 << 20);
            format!("          resources:\n            limits: {{ memory: {mib}Mi }}\n")
        }
    }
}

/// A name as Kubernetes wants one.
fn label(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(fit).take(63).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "app".into() } else { name.into() }
}

/// A text of YAML: JSON's are.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use oxherd_engine::core::Span;

    use super::*;

    #[test]
    fn an_app_is_a_deployment() {
        let mut spec = AppSpec::new("Shop Front", "/usr/bin/node");
        spec.instances = 2;
        spec.max_memory_restart = Some(256 << 20);
        spec.kill_timeout = Span::from_millis(1600);
        spec.upkeep.about.script = "server.js".into();
        spec.upkeep.about.args = vec!["--say".into(), "it's \"so\"".into()];
        spec.upkeep.about.env.insert("PORT".into(), "3000".into());
        spec.env.push(("SECRET".into(), "of the shell".into()));
        let mut plain = AppSpec::new("---", "/srv/server");
        plain.args = vec!["--port".into(), "80".into()];
        let choices = Choices { image: None, port: None, probe_port: 9614 };
        let text = deployments(&[spec, plain], &choices);
        assert!(!text.contains("SECRET"));
        insta::assert_snapshot!("kubernetes", text);
    }
}
