//! `oxherd ecosystem`: a file of apps to begin with.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};

use crate::exit::ExitStatus;
use crate::options::EcosystemOptions;
use crate::persona;
use crate::voice::{complain, tell};

const FILE: &str = "ecosystem.config.js";
const SIMPLE: &str = "module.exports = {
  apps: [
    { name: 'app', script: './app.js' },
  ],
};
";
const WHOLE: &str = "// All keys: docs/configuration.md. `oxherd check ecosystem.config.js` says what is wrong with this file.
module.exports = {
  apps: [
    {
      name: 'app',
      script: './app.js',
      // One worker for each CPU; `reload` replaces them one by one without losing a connection.
      instances: 'max',
      env: { NODE_ENV: 'development' },
      // Chosen by --env production, over `env`.
      env_production: { NODE_ENV: 'production' },
      // A worker that holds more is replaced, successor first.
      max_memory_restart: '1G',
    },
    // Any program, found on PATH; it is told its port by itself.
    // { name: 'api', script: 'gunicorn', args: 'api:app --bind 127.0.0.1:8000', interpreter: 'none' },
  ],
};
";

pub(super) fn run(options: &EcosystemOptions) -> ExitStatus {
    let mut open = OpenOptions::new();
    open.write(true).create_new(!options.force).create(options.force).truncate(options.force);
    let text = if options.mode.is_some() { SIMPLE } else { WHOLE };
    match open.open(FILE).and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => {
            tell(&format!("{FILE} is written: `{} start {FILE}` starts its apps", persona::program()));
            ExitStatus::Success
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            complain(&format!("{FILE} is there already: --force writes over it"));
            ExitStatus::Failure
        }
        Err(error) => {
            complain(&format!("cannot write {FILE}: {error}"));
            ExitStatus::Failure
        }
    }
}
