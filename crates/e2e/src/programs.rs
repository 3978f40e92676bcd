//! Real servers that know nothing of oxherd, each as its users start it. They answer with the process that was
//! started; nothing else in them is for the tests.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::PathBuf;

use crate::client::Address;
use crate::herd::{Builder, Herd};
use crate::places::{self, Folder};
use crate::ports;

/// A server with its command line, at a port of its own.
#[derive(Debug)]
pub struct Program {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    address: Address,
    /// What it reads its configuration from, and writes into.
    _folder: Option<Folder>,
}

impl Program {
    fn new(program: impl Into<PathBuf>, port: u16) -> Self {
        let (program, address) = (program.into(), Address::v4(port));
        Self { program, args: Vec::new(), env: Vec::new(), address, _folder: None }
    }

    fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|it| it.as_ref().to_owned()));
        self
    }

    fn env(mut self, key: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((key, value.into()));
        self
    }

    /// `python3 -m http.server`, which lists the threads of the process that answers.
    pub fn python_http() -> Self {
        let port = ports::free();
        let program = Self::new(places::python(), port);
        program
            .args(["-m", "http.server", "--bind", "127.0.0.1", "--directory", "/proc/self/task"])
            .args([port.to_string()])
    }

    /// Gunicorn: an arbiter with one process that serves.
    pub fn gunicorn() -> Self {
        let port = ports::free();
        Self::gunicorn_at(&format!("127.0.0.1:{port}"), Address::v4(port))
    }

    /// The same on a Unix socket in a folder.
    pub fn gunicorn_on_unix(folder: &Folder) -> Self {
        let path = folder.path().join("web.sock");
        Self::gunicorn_at(&format!("unix:{}", path.display()), Address::Unix(path))
    }

    fn gunicorn_at(bind: &str, address: Address) -> Self {
        let mut program = Self::python_module("gunicorn", 0);
        program.address = address;
        let fixtures = places::fixture("universal");
        // Its control socket has one path for all gunicorns of a user.
        let program = program.args(["--bind", bind, "--no-control-socket", "--log-level", "warning"]);
        program.args(["--chdir"]).args([fixtures]).args(["wsgi:app"])
    }

    /// Uvicorn at an address of IPv4 or IPv6.
    pub fn uvicorn(ip: IpAddr) -> Self {
        let port = ports::free();
        let mut program = Self::python_module("uvicorn", port);
        program.address = Address::Tcp((ip, port).into());
        let at = [ip.to_string(), port.to_string()];
        let program =
            program.args(["--log-level", "warning", "--host", &at[0], "--port", &at[1], "--app-dir"]);
        program.args([places::fixture("universal")]).args(["asgi:app"])
    }

    fn python_module(module: &str, port: u16) -> Self {
        let program = Self::new(places::python(), port).args(["-m", module]);
        program.env("PYTHONPATH", places::tool("python"))
    }

    /// A script of the fixtures, which gets IP and port as arguments.
    pub fn python_script(name: &str, port: u16) -> Self {
        let script = places::fixture("universal").join(name);
        Self::new(places::python(), port).args([script]).args(["127.0.0.1", &port.to_string()])
    }

    /// A server on a Unix socket in a folder, which leaves the file alone.
    pub fn on_unix(folder: &Folder) -> Self {
        let path = folder.path().join("web.sock");
        let mut program = Self::python_script("serve.py", 0).args(["unix"]).args([&path]);
        program.address = Address::Unix(path);
        program
    }

    /// Go's own server, linked statically. It ends at once when it is told to.
    pub fn go() -> Self {
        let port = ports::free();
        Self::new(places::tool("go-server/server"), port).args([format!("127.0.0.1:{port}")])
    }

    /// WEBrick, which shuts its listener down when it ends.
    pub fn webrick() -> Self {
        let port = ports::free();
        let script = places::fixture("universal/webrick.rb");
        Self::new(places::on_path("ruby"), port).args([script]).args(["127.0.0.1", &port.to_string()])
    }

    /// PHP's built-in server. It ends at once when it is told to.
    pub fn php() -> Self {
        let port = ports::free();
        let router = places::fixture("universal/pid.php");
        Self::new(places::on_path("php"), port)
            .args(["-q", "-S", &format!("127.0.0.1:{port}")])
            .args([router])
    }

    /// axum's own server, without the library. It ends at once when it is told to.
    pub fn axum() -> Self {
        let port = ports::free();
        let program = std::env::var_os("CARGO_BIN_EXE_plain_axum").expect("cargo sets it for tests");
        Self::new(program, port).args([format!("127.0.0.1:{port}")])
    }

    /// Node without its cluster protocol.
    pub fn node() -> Self {
        let port = ports::free();
        let program = Self::new(places::node(places::DEFAULT_NODE), port).args([places::fixture("app.js")]);
        program.env("PORT", port.to_string())
    }

    /// nginx as one process in the foreground.
    pub fn nginx() -> Self {
        let port = ports::free();
        let folder = Folder::new();
        let text =
            std::fs::read_to_string(places::fixture("universal/nginx.conf")).expect("a fixture is readable");
        let config = folder.write("nginx.conf", &text.replace("ADDRESS", &format!("127.0.0.1:{port}")));
        let program = Self::new(places::tool("nginx/bin/nginx"), port);
        let mut program =
            program.args(["-e", "stderr", "-p"]).args([folder.path()]).args(["-c"]).args([config]);
        program._folder = Some(folder);
        program
    }

    /// Caddy, which is told its process by a shell that becomes it.
    pub fn caddy() -> Self {
        let port = ports::free();
        let folder = Folder::new();
        let program = Self::new("/bin/sh", port).args(["-c", "export SERVER_PID=$$; exec \"$0\" \"$@\""]);
        let program = program.args([places::tool("caddy/bin/caddy")]).args([
            "run",
            "--adapter",
            "caddyfile",
            "--config",
        ]);
        let program = program.args([places::fixture("universal/Caddyfile")]);
        let program = program.env("PORT", port.to_string());
        let mut program = program.env("XDG_DATA_HOME", folder.path()).env("XDG_CONFIG_HOME", folder.path());
        program._folder = Some(folder);
        program
    }

    /// More arguments behind those that it has.
    #[must_use]
    pub fn more(self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args(args)
    }

    /// Where it serves.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The same as log lines have it.
    pub fn shown(&self) -> String {
        match &self.address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => path.display().to_string(),
        }
    }

    /// It as the app of `oxherd run --sockets universal`.
    pub fn herd(&self, workers: u32) -> Builder {
        self.herd_with(["-i", &workers.to_string(), "--sockets", "universal"])
    }

    /// It as the app of `oxherd run` with other options.
    pub fn herd_with(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Builder {
        let builder = Herd::run(args, &self.program).args(["--interpreter", "none"]).script_args(&self.args);
        self.env.iter().fold(builder, |builder, (key, value)| builder.env(key, value))
    }

    /// Its environment besides.
    pub fn environment(&self) -> &[(&'static str, OsString)] {
        &self.env
    }

    /// The program and its arguments, as words.
    pub fn words(&self) -> Vec<String> {
        let words =
            std::iter::once(self.program.as_os_str()).chain(self.args.iter().map(OsString::as_os_str));
        words.map(|word| word.to_str().expect("plain words").to_owned()).collect()
    }
}
