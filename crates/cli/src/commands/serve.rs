//! `oxherd serve`: a folder's files over HTTP, as an app that runs this program.

use std::net::SocketAddr;
use std::path::PathBuf;

use oxherd_config::{Origin, Wish};
use oxherd_engine::core::{AppSpec, Sockets};

use crate::commands::daemon::{Ending, fail, started, status_of, talk};
use crate::commands::files::{refuse, surroundings};
use crate::commands::update::renew_by;
use crate::exit::ExitStatus;
use crate::files::{Site, basic, serve};
use crate::options::{FilesOptions, ServeOptions};
use crate::view::progress::Verb;
use crate::voice::complain;

/// Has the name and the password, which are in no list of processes.
const PASSWORD: &str = "OXHERD_SERVE_AUTHORIZATION";

pub(super) fn run(options: &ServeOptions) -> ExitStatus {
    status_of(start(options))
}

fn start(options: &ServeOptions) -> Ending<ExitStatus> {
    let files = &options.files;
    folder(&files.path)?;
    let spec = spec(options)?;
    let client = started()?;
    talk(renew_by(&client, Verb::Reload, vec![spec]))
}

fn spec(options: &ServeOptions) -> Ending<AppSpec> {
    let files = &options.files;
    let program = std::env::current_exe()
        .map_err(|error| fail(&format!("cannot find this program: {error}"), ExitStatus::Failure))?;
    let port = files.port.unwrap_or(files.at_port);
    let mut args =
        vec!["serve-files".to_owned(), folder(&files.path)?.to_string_lossy().into_owned(), port.to_string()];
    args.extend(["--host".to_owned(), files.host.to_string()]);
    args.extend(files.spa.then(|| "--spa".to_owned()));
    args.extend(files.ftp.then(|| "--ftp".to_owned()));
    let mut wish = Wish::new(Origin::CommandLine, program.to_string_lossy().into_owned());
    wish.name = Some(options.name.clone().unwrap_or_else(|| format!("static-page-server-{port}")));
    wish.args = args;
    wish.instances = options.instances;
    wish.interpreter = Some("none".into());
    wish.sockets = Some(Sockets::Universal);
    let surroundings = surroundings()?;
    let job = wish.prepare(&surroundings).map_err(|error| refuse(&error.to_string()))?;
    let mut spec = job.spec;
    if let (Some(name), Some(password)) = (&files.basic_auth_username, &files.basic_auth_password) {
        spec.env.push((PASSWORD.into(), basic(name, password)));
    }
    Ok(spec)
}

fn folder(path: &str) -> Ending<PathBuf> {
    let folder = std::fs::canonicalize(path)
        .map_err(|error| refuse(&format!("cannot serve {path}: {error}; name an existing folder")))?;
    match folder.is_dir() {
        true => Ok(folder),
        false => Err(refuse(&format!("cannot serve {path}: it is not a folder; name the one that it is in"))),
    }
}

/// The worker itself.
pub(super) fn worker(options: &FilesOptions) -> ExitStatus {
    status_of(folder(&options.path).and_then(|root| {
        let site =
            Site { root, spa: options.spa, lists: options.ftp, authorization: std::env::var(PASSWORD).ok() };
        let address = SocketAddr::new(options.host, options.port.unwrap_or(options.at_port));
        talk(async move {
            match serve(address, site).await {
                Ok(()) => Ok(ExitStatus::Success),
                Err(error) => {
                    complain(&format!("cannot listen on {address}: {error}"));
                    Err(ExitStatus::Failure)
                }
            }
        })
    }))
}
