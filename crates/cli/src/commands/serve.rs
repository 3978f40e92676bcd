//! `oxherd serve`: a folder's files over HTTP, as an app that runs this program.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use oxherd_config::{AUTHORIZATION, Origin, Served, Wish};
use oxherd_engine::core::{AppSpec, Sockets};

use crate::commands::daemon::{Ending, fail, started, status_of, talk};
use crate::commands::files::{refuse, surroundings};
use crate::commands::update::renew_by;
use crate::exit::ExitStatus;
use crate::files::{Site, serve};
use crate::options::{FilesOptions, ServeOptions};
use crate::view::progress::Verb;
use crate::voice::complain;

/// The page of an application that has only one.
const INDEX: &str = "index.html";

pub(super) fn run(options: &ServeOptions) -> ExitStatus {
    status_of(start(options))
}

fn start(options: &ServeOptions) -> Ending<ExitStatus> {
    let spec = spec(options)?;
    let client = started()?;
    talk(renew_by(&client, Verb::Reload, vec![spec]))
}

fn spec(options: &ServeOptions) -> Ending<AppSpec> {
    let files = &options.files;
    let surroundings = surroundings()?;
    let program = surroundings.file_server.as_ref().and_then(|program| program.to_str());
    let program = program.ok_or_else(|| fail(&"cannot find this program", ExitStatus::Failure))?;
    let login = files.basic_auth_username.clone().zip(files.basic_auth_password.clone());
    let served = Served {
        path: files.path.clone(),
        port: files.port.unwrap_or(files.at_port),
        host: files.host,
        spa: files.spa,
        homepage: files.homepage.clone(),
        lists: files.ftp,
        login,
    };
    let mut wish = Wish::new(Origin::CommandLine, program);
    wish.name = Some(options.name.clone().unwrap_or_else(|| served.usual_name()));
    wish.args = served.command(&surroundings.folder).map_err(|why| refuse(&why))?;
    wish.instances = options.instances;
    wish.interpreter = Some("none".into());
    wish.sockets = Some(Sockets::Universal);
    let job = wish.prepare(&surroundings).map_err(|error| refuse(&error.to_string()))?;
    let mut spec = job.spec;
    spec.env.extend(served.authorization().map(|value| (AUTHORIZATION.into(), value)));
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
        let page = options.homepage.as_deref().unwrap_or(INDEX);
        let page: PathBuf =
            Path::new(page).components().filter(|it| matches!(it, Component::Normal(_))).collect();
        let fallback = options.spa.then_some(page);
        let site =
            Site { root, fallback, lists: options.ftp, authorization: std::env::var(AUTHORIZATION).ok() };
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
