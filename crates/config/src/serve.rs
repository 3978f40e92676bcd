//! PM2's server of files, as files of apps ask for it: by variables of a script named `serve`, or under `static` beside the
//! apps. It comes to this program's own.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use crate::program::{absolute, words};
use crate::values::Variable;

/// What PM2 calls it.
pub(crate) const SCRIPT: &str = "serve";
/// How the variables that it is told by begin.
pub(crate) const PREFIX: &str = "PM2_SERVE_";
/// Has the name and the password, which are in no list of processes.
pub const AUTHORIZATION: &str = "OXHERD_SERVE_AUTHORIZATION";
/// The command that serves.
const COMMAND: &str = "serve-files";
const PORT: u16 = 8080;

/// How what is asked for was written: what is wrong with it is told in the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// As PM2's variables.
    Variables,
    /// As keys under `static`.
    Keys,
}

impl Written {
    fn name(self, of: &str) -> String {
        match (self, of.strip_prefix("BASIC_AUTH_")) {
            (Self::Variables, _) => format!("{PREFIX}{of}"),
            (Self::Keys, None) => format!("`{}`", of.to_lowercase()),
            (Self::Keys, Some(part)) => format!("`basic_auth.{}`", part.to_lowercase()),
        }
    }
}

/// What is served, where and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub path: String,
    pub port: u16,
    pub host: IpAddr,
    /// Answer the homepage where there is no such file.
    pub spa: bool,
    /// The page of a `spa`, in place of `index.html`.
    pub homepage: Option<String>,
    /// List folders.
    pub lists: bool,
    /// A name and a password.
    pub login: Option<(String, String)>,
}

impl Served {
    /// What the variables say; the last of a name counts. What is odd about them goes to `doubts`.
    pub(crate) fn of(env: &[Variable], written: Written, doubts: &mut Vec<String>) -> Result<Self, String> {
        let text = |name: &str| {
            let is_it = |it: &&Variable| it.key.strip_prefix(PREFIX) == Some(name);
            env.iter().rev().find(is_it).map(|it| it.value.as_str()).filter(|value| !value.is_empty())
        };
        let flag = |name: &str| match text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(format!("{} is `{other}`: give true or false", written.name(name))),
        };
        let asks = flag("BASIC_AUTH")?;
        let login = text("BASIC_AUTH_USERNAME").zip(text("BASIC_AUTH_PASSWORD"));
        if asks && login.is_none() {
            return Err(format!(
                "{} needs {} and {}",
                written.name("BASIC_AUTH"),
                written.name("BASIC_AUTH_USERNAME"),
                written.name("BASIC_AUTH_PASSWORD")
            ));
        }
        if !asks && login.is_some() {
            let asking = written.name("BASIC_AUTH");
            doubts.push(format!("nobody is asked for a password: {asking} is not true"));
        }
        if text("MONITOR").is_some() {
            let monitor = written.name("MONITOR");
            doubts.push(format!("{monitor} has no effect here: nothing is injected into pages"));
        }
        let spa = flag("SPA")?;
        let homepage = text("HOMEPAGE");
        if homepage.is_some() && !spa {
            let (homepage, spa) = (written.name("HOMEPAGE"), written.name("SPA"));
            doubts.push(format!("{homepage} has no effect: {spa} is not true"));
        }
        Ok(Self {
            path: text("PATH").unwrap_or(".").into(),
            port: text("PORT").map_or(Ok(PORT), |port| parse_port(port, written))?,
            host: text("HOST").map_or(Ok(Ipv4Addr::UNSPECIFIED.into()), |host| parse_host(host, written))?,
            spa,
            homepage: homepage.filter(|_| spa).map(str::to_owned),
            lists: flag("FTP")?,
            login: login.filter(|_| asks).map(|(name, password)| (name.into(), password.into())),
        })
    }

    /// The words of the command that serves, with the folder below `here`.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn command(&self, here: &Path) -> Result<Vec<String>, String> {
        let refuse = |why: &str| format!("cannot serve {}: {why}", self.path);
        let folder = absolute(here, &self.path).canonicalize();
        let folder =
            folder.map_err(|cause| refuse(&format!("{}; name an existing folder", words(&cause))))?;
        if !folder.is_dir() {
            return Err(refuse("it is not a folder; name the one that it is in"));
        }
        let folder = folder.to_str().ok_or_else(|| refuse("its path is not UTF-8; choose another folder"))?;
        let mut line = vec![COMMAND.to_owned(), folder.to_owned(), self.port.to_string()];
        line.extend(["--host".to_owned(), self.host.to_string()]);
        line.extend(self.spa.then(|| "--spa".to_owned()));
        line.extend(self.homepage.iter().map(|page| format!("--homepage={page}")));
        line.extend(self.lists.then(|| "--ftp".to_owned()));
        Ok(line)
    }

    /// The value of the header `authorization` that a client must send, if any.
    pub fn authorization(&self) -> Option<String> {
        let (name, password) = self.login.as_ref()?;
        Some(format!("Basic {}", base64(format!("{name}:{password}").as_bytes())))
    }

    /// What it is called where nobody chose a name.
    pub fn usual_name(&self) -> String {
        format!("static-page-server-{}", self.port)
    }
}

fn parse_port(text: &str, written: Written) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("{} is `{text}`: give a number from 1 to 65535", written.name("PORT")))
}

fn parse_host(text: &str, written: Written) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        _ => text
            .parse()
            .map_err(|_| format!("{} is `{text}`: give an address such as 127.0.0.1", written.name("HOST"))),
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(group >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { letter.into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(env: &[(&str, &str)]) -> (Result<Served, String>, Vec<String>) {
        let variable =
            |(key, value): &(&str, &str)| Variable { key: format!("{PREFIX}{key}"), value: (*value).into() };
        let mut doubts = Vec::new();
        (Served::of(&env.iter().map(variable).collect::<Vec<_>>(), Written::Variables, &mut doubts), doubts)
    }

    #[test]
    fn variables_say_what_is_served() {
        let usual = Served {
            path: ".".into(),
            port: 8080,
            host: Ipv4Addr::UNSPECIFIED.into(),
            spa: false,
            homepage: None,
            lists: false,
            login: None,
        };
        assert_eq!(served(&[]), (Ok(usual.clone()), vec![]));
        let env = [
            ("PATH", "dist"),
            ("PORT", "80"),
            ("SPA", "true"),
            ("HOMEPAGE", "/app.html"),
            ("HOST", "localhost"),
        ];
        let wanted = Served {
            path: "dist".into(),
            port: 80,
            host: Ipv4Addr::LOCALHOST.into(),
            spa: true,
            homepage: Some("/app.html".into()),
            ..usual
        };
        assert_eq!(served(&env), (Ok(wanted), vec![]));
    }

    #[test]
    fn a_password_is_asked_for_where_that_is_said() {
        let login = [("BASIC_AUTH_USERNAME", "Aladdin"), ("BASIC_AUTH_PASSWORD", "open sesame")];
        let (open, doubts) = served(&login);
        assert_eq!((open.unwrap().authorization(), doubts.len()), (None, 1));
        let (closed, doubts) = served(&[&login[..], &[("BASIC_AUTH", "true")]].concat());
        let wanted = Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned());
        assert_eq!((closed.unwrap().authorization(), doubts), (wanted, vec![]));
        for wrong in [("BASIC_AUTH", "true"), ("SPA", "1"), ("PORT", "0"), ("HOST", "::1::")] {
            assert!(served(&[wrong]).0.is_err(), "{wrong:?}");
        }
        assert_eq!(served(&[("MONITOR", "key"), ("HOMEPAGE", "a.html")]).1.len(), 2);
    }

    #[test]
    fn passwords_are_written_in_base64() {
        let written = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(written, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }
}
