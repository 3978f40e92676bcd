//! Configuration files that are programs, run by the node that is on PATH; there is nothing to try where there is none.

use super::*;
use crate::testing::Folder;

struct Setup(Folder);

impl Setup {
    fn surroundings(&self) -> Surroundings {
        let mut surroundings = Surroundings::of_caller().expect("there is a current folder");
        surroundings.environment.push((PATIENCE_VARIABLE.into(), "5s".into()));
        surroundings.folder = self.0.path().into();
        surroundings
    }

    fn read_as(&self, surroundings: &Surroundings, name: &str, text: &str) -> Result<String, String> {
        let path = self.0.file(name, text, 0o644);
        let source = Source::new(name.into(), text);
        match read(&path, &source, surroundings) {
            Ok(document) => Ok(document.root.value.to_json()),
            Err(fault) => {
                let line = source.line(fault.place.start);
                Err(format!("{line}:{}: {}", source.slice(&fault.place), fault.what))
            }
        }
    }

    fn read(&self, name: &str, text: &str) -> Result<String, String> {
        self.read_as(&self.surroundings(), name, text)
    }
}

fn setup() -> Option<Setup> {
    let setup = Setup(Folder::new());
    let has_node = Evaluation {
        path: Path::new("/"),
        source: &Source::new(String::new(), ""),
        surroundings: &setup.surroundings(),
    }
    .node()
    .is_ok();
    has_node.then_some(setup)
}

#[test]
fn what_is_exported_comes_back() {
    let Some(setup) = setup() else { return };
    setup.0.file("more.js", "module.exports = [1]", 0o644);
    let wanted = Ok(r#"{"apps":[{"script":"a.js"}]}"#.to_owned());
    let app = "{ apps: [{ script: 'a.js', left: undefined }] }";
    let files = [
        ("a.config.js", format!("module.exports = {app}")),
        ("a.config.cjs", format!("exports.apps = {app}.apps")),
        ("a.config.mjs", format!("export default {app}")),
        ("b.config.mjs", format!("export const apps = {app}.apps")),
        ("b.config.js", format!("module.exports = () => ({app})")),
        ("c.config.js", format!("module.exports = async () => ({app})")),
        ("d.config.js", format!("module.exports = Promise.resolve({app})")),
        (
            "e.config.js",
            format!(
                "require('./more.js'); console.log('hello'); process.stdout.write('x'); module.exports = {app}"
            ),
        ),
        (
            "f.config.js",
            format!(
                "setInterval(() => {{}}, 1000); module.exports = {app}; process.on('exit', () => {{ for (;;); }})"
            ),
        ),
        ("c.config.mjs", format!("const more = await Promise.resolve({app}); export default more")),
        (
            "g.config.js",
            format!(
                "Object.defineProperty(exports, '__esModule', {{ value: true }}); exports.default = {app}"
            ),
        ),
    ];
    for (name, text) in files {
        assert_eq!(setup.read(name, &text), wanted, "{name}");
    }
    assert_eq!(
        setup.read("h.config.js", "module.exports = [require('./more.js'), process.argv.length]"),
        Ok("[[1],2]".into())
    );
}

#[test]
fn what_fails_is_told_in_its_own_words_and_at_its_place() {
    let Some(setup) = setup() else { return };
    let wrong = |name: &str, text: &str| setup.read(name, text).expect_err(text);
    assert_eq!(
        wrong("a.config.js", "\nmodule.exports = {\n  apps: gone,\n}"),
        "3:g: ReferenceError: gone is not defined"
    );
    assert_eq!(
        wrong("b.config.js", "module.exports = {\n  apps: [\n"),
        "3:: SyntaxError: Unexpected end of input"
    );
    assert!(
        wrong("c.config.js", "let a;\nlet b = ;").starts_with("2:;: SyntaxError: Unexpected token"),
        "{}",
        wrong("c.config.js", "let a;\nlet b = ;")
    );
    assert!(
        wrong("a.config.mjs", "\nexport default {\n  a b\n}")
            .starts_with("3:b: SyntaxError: Unexpected identifier"),
        "{}",
        wrong("a.config.mjs", "\nexport default {\n  a b\n}")
    );
    assert!(wrong("d.config.js", "\nrequire('./gone')").contains("2:r: Error: Cannot find module './gone'"));
    assert_eq!(wrong("e.config.js", "throw 'tea'"), "1:: it threw tea");
    assert_eq!(
        wrong("f.config.js", "const a = {}; a.a = a; module.exports = a").split('\n').next().unwrap(),
        "1:: TypeError: Converting circular structure to JSON"
    );
    assert_eq!(
        wrong("g.config.js", "module.exports = undefined"),
        "1:: it exports nothing: write module.exports = { apps: [ … ] }"
    );
    assert_eq!(
        wrong("h.config.js", "console.error('X is missing'); process.exit(3)"),
        "1:: ended with exit status: 3 before it had exported anything; it said: X is missing"
    );
    assert!(wrong("i.config.js", "process.kill(process.pid, 'SIGKILL')").contains("signal: 9"));
    assert!(wrong("j.config.js", "module.exports = 'x'.repeat(5 << 20)").contains("exports more than"));
}

#[test]
fn time_is_limited_and_node_is_chosen() {
    let Some(setup) = setup() else { return };
    let mut surroundings = setup.surroundings();
    surroundings.environment.retain(|(key, _)| key != PATIENCE_VARIABLE);
    surroundings.environment.push((PATIENCE_VARIABLE.into(), "300ms".into()));
    let hangs = setup.read_as(&surroundings, "a.config.js", "for (;;);");
    assert_eq!(hangs, Err("1:: has exported nothing after 0.3 s".into()));
    let waits = setup.read_as(
        &surroundings,
        "b.config.js",
        "module.exports = new Promise(() => setInterval(() => {}, 99))",
    );
    assert_eq!(waits, Err("1:: has exported nothing after 0.3 s".into()));
    setup.0.file("mynode", "#!/bin/sh\necho '{\"value\":[7]}' >&0", 0o755);
    surroundings.environment.push((NODE_VARIABLE.into(), "mynode".into()));
    assert_eq!(setup.read_as(&surroundings, "c.config.js", ""), Ok("[7]".into()));
    surroundings.environment.retain(|(key, _)| key != NODE_VARIABLE && key != "PATH");
    let none = setup.read_as(&surroundings, "d.config.js", "");
    assert_eq!(none, Err("1:: cannot be read: it is for node, which is not on PATH".into()));
}
