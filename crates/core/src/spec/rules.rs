//! Whether the rules by which workers are replaced, counted and named can be had.

use crate::{AppSpec, Limits, Probe, Span, SpecError};

/// Where a probe knocks, read from its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAt {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What to ask for by HTTP; without it, being accepted is answer enough.
    pub path: Option<String>,
}

impl AppSpec {
    /// Whether numbers, probes and variables can be as they are written.
    pub(crate) fn check_more_rules(&self, limits: Limits) -> Result<(), SpecError> {
        let zero = |value: bool, key| if value { Err(SpecError::Zero { key }) } else { Ok(()) };
        zero(self.exp_backoff_restart_delay == Some(Span::ZERO), "exp_backoff_restart_delay")?;
        if let Some(scaling) = self.scaling {
            self.check_instances(scaling.max, limits)?;
        }
        if let Some(probe) = &self.ready_probe {
            probe.at().ok_or_else(|| SpecError::BadProbe { url: probe.url.clone() })?;
            zero(probe.timeout == Span::ZERO, "ready_probe.timeout")?;
        }
        self.check_variables()
    }

    fn check_variables(&self) -> Result<(), SpecError> {
        let named = [("instance_var", &self.instance_var), ("increment_var", &self.increment_var)];
        for (key, name) in named {
            if let Some(name) = name
                && (name.is_empty() || name.contains(['=', '\0']))
            {
                return Err(SpecError::BadVariable { key, name: name.clone() });
            }
        }
        let Some(name) = &self.increment_var else { return Ok(()) };
        let value = self.variable(name).unwrap_or("0");
        let nothing = || SpecError::NothingToIncrement { name: name.clone(), value: value.into() };
        value.parse::<i64>().map(drop).map_err(|_| nothing())
    }

    /// The variable as the app's environment has it. The last of a name counts.
    fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The variables by which a worker in this slot is told its number.
    pub fn numbering(&self, slot: crate::Slot) -> Vec<(String, String)> {
        let own = self.instance_var.as_deref().unwrap_or("NODE_APP_INSTANCE");
        let mut variables = vec![(own.to_owned(), slot.0.to_string())];
        if let Some(name) = &self.increment_var {
            let first: i64 = self.variable(name).and_then(|it| it.parse().ok()).unwrap_or(0);
            variables.push((name.clone(), first.saturating_add(i64::from(slot.0)).to_string()));
        }
        variables
    }
}

impl Probe {
    /// Where it knocks; nothing if the URL is none of ours.
    pub fn at(&self) -> Option<ProbeAt> {
        let (rest, http) = match self.url.split_once("://")? {
            ("http", rest) => (rest, true),
            ("tcp", rest) => (rest, false),
            _ => return None,
        };
        let end = if http { rest.find(['/', '?']).unwrap_or(rest.len()) } else { rest.len() };
        let (place, path) = rest.split_at_checked(end)?;
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain(rest) || place.contains('@') {
            return None;
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let port: u16 = match port {
            Some(port) => port.parse().ok()?,
            None if http => 80,
            None => return None,
        };
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let fits = !host.is_empty() && port > 0;
        fits.then(|| ProbeAt { host: host.into(), port, path: http.then_some(path) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scaling, Slot};

    fn refused(change: impl FnOnce(&mut AppSpec)) -> String {
        let mut spec = AppSpec::new("web", "node");
        change(&mut spec);
        spec.check(Limits::default()).err().map_or_else(|| "fine".into(), |error| error.to_string())
    }

    fn probe(url: &str) -> Probe {
        Probe { url: url.into(), interval: Span::from_secs(1), timeout: Span::from_secs(1) }
    }

    #[test]
    fn rules_that_could_not_be_obeyed_are_refused() {
        let all = [
            refused(|it| it.exp_backoff_restart_delay = Some(Span::ZERO)),
            refused(|it| it.scaling = Some(Scaling { min: 1, max: 4 })),
            refused(|it| it.scaling = Some(Scaling { min: 1, max: 9999 })),
            refused(|it| it.ready_probe = Some(probe("https://localhost/"))),
            refused(|it| it.instance_var = Some(String::new())),
            refused(|it| it.increment_var = Some("A=B".into())),
            refused(|it| it.increment_var = Some("PORT".into())),
            refused(|it| {
                it.env = vec![("PORT".into(), "http".into())];
                it.increment_var = Some("PORT".into());
            }),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn a_probe_s_url_is_read() {
        let read = |url: &str| probe(url).at().map(|it| (it.host, it.port, it.path));
        let http = |host: &str, port, path: &str| Some((host.to_owned(), port, Some(path.to_owned())));
        assert_eq!(read("http://localhost:3000/health?a=b"), http("localhost", 3000, "/health?a=b"));
        assert_eq!(read("http://127.0.0.1"), http("127.0.0.1", 80, "/"));
        assert_eq!(read("http://a:1?x#y"), http("a", 1, "/?x"));
        assert_eq!(read("http://[::1]:8080/"), http("::1", 8080, "/"));
        assert_eq!(read("tcp://db:5432"), Some(("db".into(), 5432, None)));
        let wrong = [
            "http://",
            "tcp://db",
            "tcp://db:0",
            "tcp://:1",
            "ftp://a:1",
            "http://u@a/",
            "http://a b/",
            "a:1",
        ];
        for url in wrong {
            assert_eq!(read(url), None, "{url}");
        }
    }

    #[test]
    fn slots_are_told_their_numbers() {
        let mut spec = AppSpec::new("web", "node");
        let told = |spec: &AppSpec, slot| {
            let all = spec.numbering(Slot(slot)).into_iter().map(|(key, value)| format!("{key}={value}"));
            all.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told(&spec, 2), "NODE_APP_INSTANCE=2");
        spec.env = vec![("PORT".into(), "3000".into())];
        (spec.instance_var, spec.increment_var) = (Some("WORKER".into()), Some("PORT".into()));
        assert_eq!(told(&spec, 2), "WORKER=2 PORT=3002");
        spec.env.clear();
        assert_eq!(told(&spec, 2), "WORKER=2 PORT=2");
    }
}
