//! The ways into the program that only the program itself takes: the keeper, and the daemon that it starts.
//!
//! They are looked for before the command line is parsed: a keeper is to stay small, and nobody types them.

use std::ffi::OsString;

use oxherd_daemon::daemon::{Faces, Render};
use oxherd_daemon::{daemon, keeper};

use crate::output;
use crate::version::version;

/// Runs the keeper or the daemon if the command line asks for one; returns the exit code.
pub(crate) fn run(mut args: impl Iterator<Item = OsString>) -> Option<u8> {
    let _program = args.next();
    match args.next()?.to_str()? {
        "keeper" => Some(keeper::main(args, version())),
        "daemon" => Some(daemon::main(args, faces())),
        _ => None,
    }
}

fn faces() -> Faces {
    Faces {
        version: version(),
        render: Render { bulletin: output::line_of_bulletin, alert: output::line_of_alert },
        console: |manner| Box::new(output::Foreground::new(manner)),
    }
}
