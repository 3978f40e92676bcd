//! `serve`: a folder's files over HTTP.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use oxherd_e2e::client::Address;
use oxherd_e2e::http::{Client, Response};
use oxherd_e2e::{Pm2, eventually, ports};

struct Site {
    pm2: Pm2,
    address: Address,
}

impl Site {
    fn new(options: &[&str]) -> Self {
        let pm2 = Pm2::new();
        let root = pm2.home().surroundings().join("site");
        fs::create_dir_all(root.join("sub/deep")).expect("the folder is ours");
        fs::write(root.join("index.html"), "<h1>home</h1>").expect("the folder is ours");
        fs::write(root.join("sub/a b.txt"), "0123456789").expect("the folder is ours");
        fs::write(root.join("sub/big.bin"), vec![7; 3 << 20]).expect("the folder is ours");
        pm2.home().write("secret.txt", "outside");
        symlink("../secret.txt", root.join("leak.txt")).expect("the folder is ours");
        symlink("sub/a b.txt", root.join("inside.txt")).expect("the folder is ours");
        let port = ports::free();
        let number = port.to_string();
        pm2.ok(&[&["serve", "site", &number, "--host", "127.0.0.1"], options].concat());
        let address = Address::reach(&format!("127.0.0.1:{port}"));
        Self { pm2, address }
    }

    fn ask(&self, method: &str, path: &str, fields: &str) -> Response {
        Client::connect(&self.address)
            .and_then(|mut it| it.request(method, path, fields, b""))
            .expect("an answer")
    }

    fn get(&self, path: &str) -> (u16, String) {
        let response = self.ask("GET", path, "");
        (response.status, response.text())
    }
}

#[test]
fn files_are_served_as_browsers_want_them() {
    let site = Site::new(&["--ftp"]);
    let home = site.ask("GET", "/", "");
    assert_eq!((home.status, home.text().as_str()), (200, "<h1>home</h1>"));
    assert_eq!(home.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(site.get("/inside.txt"), (200, "0123456789".into()), "a link that stays inside");

    let (tag, date) = (home.header("etag").expect("a tag"), home.header("last-modified").expect("a date"));
    assert_eq!(site.ask("GET", "/", &format!("if-none-match: {tag}\r\n")).status, 304);
    assert_eq!(site.ask("GET", "/", &format!("if-modified-since: {date}\r\n")).status, 304);
    assert_eq!(site.ask("GET", "/", "if-none-match: \"other\"\r\n").status, 200);

    let part = site.ask("GET", "/sub/a%20b.txt", "range: bytes=2-4\r\n");
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
    assert_eq!(site.ask("GET", "/sub/a%20b.txt", "range: bytes=-3\r\n").text(), "789");
    assert_eq!(site.ask("GET", "/sub/a%20b.txt", "range: bytes=10-\r\n").status, 416);
    let big = site.ask("GET", "/sub/big.bin", "");
    assert_eq!((big.body.len(), big.header("content-type")), (3 << 20, Some("application/octet-stream")));
    let head = site.ask("HEAD", "/sub/big.bin", "");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("3145728"), 0));

    let folder = site.ask("GET", "/sub", "");
    assert_eq!((folder.status, folder.header("location")), (301, Some("/sub/")));
    let (status, list) = site.get("/sub/");
    assert!(
        status == 200 && list.contains("<a href=\"a%20b.txt\">a b.txt</a>") && list.contains("deep/"),
        "{list}"
    );
    assert_eq!(site.ask("POST", "/", "content-length: 0\r\n").status, 405);
    odd_indexes(&site);
}

/// What is no file is no page, and nobody waits for it.
fn odd_indexes(site: &Site) {
    let root = site.pm2.home().surroundings().join("site");
    fs::create_dir_all(root.join("folder/index.html")).expect("the folder is ours");
    fs::write(root.join("folder/.env"), "secret").expect("the folder is ours");
    let (status, list) = site.get("/folder/");
    assert!(status == 200 && list.contains("index.html/") && !list.contains(".env"), "{list}");
    assert_eq!(site.get("/folder/.env").0, 404);
    fs::create_dir(root.join("pipe")).expect("the folder is ours");
    let pipe = root.join("pipe/index.html");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
    assert_eq!((site.get("/pipe/").0, site.get("/pipe/index.html").0), (200, 404));
}

#[test]
fn nothing_outside_the_folder_is_served() {
    let site = Site::new(&["--spa"]);
    for path in [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/sub/%2e%2e%2f%2e%2e%2fsecret.txt",
    ] {
        let (status, text) = site.get(path);
        assert!(status == 400 && !text.contains("outside"), "{path}: {status} {text}");
    }
    // Not even by a link; as nowhere else, the page of the application is there.
    for path in ["/leak.txt", "/nowhere", "/sub/deep/"] {
        assert_eq!(site.get(path), (200, "<h1>home</h1>".into()), "{path}");
    }
    let root = site.pm2.home().surroundings().join("site");
    fs::create_dir_all(root.join(".well-known")).expect("the folder is ours");
    fs::write(root.join(".env"), "secret").expect("the folder is ours");
    fs::write(root.join(".well-known/me"), "here").expect("the folder is ours");
    symlink(".env", root.join("env.txt")).expect("the folder is ours");
    for path in ["/.env", "/env.txt", "/%2eenv"] {
        assert_eq!(site.get(path), (200, "<h1>home</h1>".into()), "{path}");
    }
    assert_eq!(site.get("/.well-known/me"), (200, "here".into()));
    let list = site.pm2.ok(&["ls"]);
    assert!(list.contains("static-page-server-") && list.contains("online"), "{list}");
}

#[test]
fn a_password_is_asked_for_and_is_in_no_list_of_processes() {
    let site = Site::new(&[
        "--basic-auth-username",
        "ox",
        "--basic-auth-password",
        "quiet",
        "-i",
        "2",
        "--name",
        "site",
    ]);
    let refused = site.ask("GET", "/", "");
    assert_eq!((refused.status, refused.header("www-authenticate").is_some()), (401, true));
    assert_eq!(site.ask("GET", "/", "authorization: Basic b3g6d3Jvbmc=\r\n").status, 401);
    assert_eq!(site.ask("GET", "/", "authorization: bASIC b3g6cXVpZXQ=\r\n").status, 200);
    let asked = "authorization: Basic b3g6cXVpZXQ=\r\n";
    assert_eq!(site.ask("GET", "/", asked).status, 200);
    for pid in site.pm2.home().pids("site") {
        let line = fs::read(format!("/proc/{pid}/cmdline")).expect("it lives");
        assert!(!String::from_utf8_lossy(&line).contains("quiet"), "{pid}");
    }
    // As any app: reloaded without loss, and in two workers on one port.
    site.pm2.ok(&["reload", "site"]);
    eventually("an answer", || (site.ask("GET", "/", asked).status == 200).then_some(()));
    assert_eq!(site.get("/missing").0, 401);
}

#[test]
fn files_of_apps_have_servers_of_files() {
    let pm2 = Pm2::new();
    let root = pm2.home().surroundings().join("site");
    fs::create_dir_all(&root).expect("the folder is ours");
    fs::write(root.join("index.html"), "<h1>home</h1>").expect("the folder is ours");
    fs::write(root.join("app.html"), "<h1>app</h1>").expect("the folder is ours");
    let (one, two) = (ports::free(), ports::free());
    let file = format!(
        "module.exports = {{
           apps: [{{ script: 'serve', env: {{
             PM2_SERVE_PATH: './site', PM2_SERVE_PORT: {one}, PM2_SERVE_HOST: '127.0.0.1',
             PM2_SERVE_SPA: 'true', PM2_SERVE_HOMEPAGE: './app.html',
           }} }}],
           static: [{{
             path: './site', port: {two}, host: '127.0.0.1', monitor: 'key',
             basic_auth: {{ username: 'ox', password: 'quiet' }},
           }}],
         }};"
    );
    pm2.home().write("ecosystem.config.js", &file);
    let told = pm2.told(&["start", "ecosystem.config.js"]);
    let doubt = format!("`monitor` of static-page-server-{two} has no effect here");
    assert!(told.contains(&doubt), "{told}");
    let get = |port: u16, fields: &str| {
        let address = Address::reach(&format!("127.0.0.1:{port}"));
        let answer = Client::connect(&address).and_then(|mut it| it.request("GET", "/nowhere", fields, b""));
        answer.map(|it| (it.status, it.text())).ok()
    };
    let wanted = (200, "<h1>app</h1>".to_owned());
    eventually("the page", || get(one, "").filter(|answer| *answer == wanted));
    eventually("the question", || get(two, "").filter(|(status, _)| *status == 401));
    assert_eq!(get(two, "authorization: Basic b3g6cXVpZXQ=\r\n").map(|it| it.0), Some(404));
    let list = pm2.ok(&["ls"]);
    assert!(list.contains("serve") && list.contains(&format!("static-page-server-{two}")), "{list}");
}
