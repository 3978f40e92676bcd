//! Whatever stands in a file: it is read, or refused with a place. No text makes the reader panic.

use std::fmt::Write as _;
use std::path::Path;

use oxherd_config::{Diagnostics, Surroundings, jobs, read, schema};
use serde_json::Value;

/// Values as people write them, and as nobody would, in the words of JSON.
const VALUES: [&str; 48] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "1.5",
    "-1.5",
    "1e3",
    "1e999",
    "65535",
    "65536",
    "4294967296",
    "18446744073709551616",
    "\"\"",
    "\" \"",
    "\"0\"",
    "\"-1\"",
    "\"1G\"",
    "\"1.5G\"",
    "\"1g\"",
    "\"99999999999G\"",
    "\"10s\"",
    "\"1.5h\"",
    "\"99999999d\"",
    "\"10 s\"",
    "\"s\"",
    "\"max\"",
    "\"io\"",
    "\"cluster\"",
    "\"SIGINT\"",
    "\"SIGNOPE\"",
    "\"* * * * *\"",
    "\"61 * * * *\"",
    "\"http://a:80/\"",
    "\"tcp://[::1]:80\"",
    "\"http://\"",
    "\"1-0\"",
    "\"80,8000-\"",
    "\"web=127.0.0.1:0\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"ü\\n\\u202e\"",
    "[]",
    "[[], {}, null, -1]",
    "{}",
    "{\"min\": 0, \"max\": \"x\", \"size\": -1, \"every\": \"\", \"url\": 5, \"interval\": [], \"awaitWriteFinish\": {\"a\": 1}}",
];

const YAML: &str = "\
# apps of a shop
apps:
  - &base
    name: web
    script: server.js
    args: ['-p', 80, \"a\\tb\"]
    env: {A: 1, B: 'x y', C: ~}
    log_rotate:
      size: 10M
      keep: 3
    ready_probe: http://localhost:80/
  - <<: *base
    name: jobs
    args: |
      --queue
      mail
    env_production:
      NODE_ENV: production
    stop_exit_codes: [0, 143]
";

const TOML: &str = "\
# apps of a shop
[[apps]]
name = \"web\"
script = 'server.js'
args = [\"-p\", 80]
env = { A = 1, B = \"\"\"x
y\"\"\" }
log_rotate.size = \"10M\"
started = 2024-01-01T00:00:00Z

[[apps]]
name = \"jobs\"
script = \"jobs.py\"
instances = 0x10
[apps.env_production]
NODE_ENV = \"production\"
";

const JSON5: &str = "\
// apps of a shop
{apps: [{name: 'web', script: \"server.js\", args: ['-p', +80, .5, 0x1F],
  env: {A: 1, 'B C': 'x\\
y', NaN: NaN}, log_rotate: {size: '10M', keep: 3},}, /* and */
  {\"name\": \"jobs\", \"script\": \"jobs.py\", \"env_production\": {\"NODE_ENV\": \"production\"}}]}
";

/// What is put in, or in the place of something.
const PIECES: [&str; 40] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "'",
    "\"",
    "\\",
    "\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "#",
    "//",
    "/*",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    "|",
    ">",
    "? ",
    "!!int ",
    "%YAML 9\n",
    "---\n",
    "...",
    "=",
    "[[",
    "]]",
    ".",
    "ü",
    "\u{feff}",
    "\u{2028}",
    "\u{0}",
    "\u{1f980}",
    "\"\"\"",
    "\\u00",
    "nul",
];

/// A small generator (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    /// A place between two characters.
    fn place(&mut self, text: &str) -> usize {
        let at = self.below(text.len() + 1);
        (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
    }
}

fn nowhere() -> Surroundings {
    let environment = vec![("PATH".into(), "/nowhere".into())];
    Surroundings {
        folder: "/".into(),
        environment,
        cpus: 2,
        env_name: Some("production".into()),
        logs: None,
        file_server: None,
        as_pm2: false,
    }
}

/// Reads a text as all of its users do.
fn outcome(file: &str, text: &str, as_pm2: bool) -> Result<(), Diagnostics> {
    let surroundings = Surroundings { as_pm2, ..nowhere() };
    let apps = read(Path::new(file), text, &surroundings)?;
    jobs(&apps, &surroundings).map(drop)
}

/// It is read, or each finding has a line, a column and something that is marked.
fn assert_told(file: &str, text: &str, which: &dyn std::fmt::Display) {
    for as_pm2 in [false, true] {
        let Err(why) = outcome(file, text, as_pm2) else { continue };
        let lines = text.matches('\n').count() + 1;
        let has_place = |it: &oxherd_config::Diagnostic| {
            it.spot.as_ref().is_some_and(|spot| {
                (1..=lines).contains(&spot.line) && spot.column > 0 && !spot.marked.is_empty()
            })
        };
        assert!(!why.list.is_empty() && why.list.iter().all(has_place), "{which}: {why}\n{text:?}");
        let is_one_line = |it: &oxherd_config::Diagnostic| !it.what.contains(char::is_control);
        assert!(why.list.iter().all(is_one_line), "{which}: {why:?}\n{text:?}");
        let shown = why.to_string();
        assert!(shown.starts_with(&format!("{file}:")), "{which}: {shown}\n{text:?}");
    }
}

#[test]
fn any_value_of_any_key_is_taken_or_refused_at_its_place() {
    let schema: Value = serde_json::from_str(&schema()).expect("it is JSON");
    let keys = schema["$defs"]["app"]["properties"].as_object().expect("keys");
    // In one spelling.
    let keys = keys.keys().filter(|key| !key.contains(|c: char| c.is_ascii_uppercase()));
    let keys = keys.map(String::as_str).chain(["env_production", "unheard_of", ""]);
    for key in keys {
        for value in VALUES {
            let script = if key == "script" { "" } else { "\"script\": \"a.js\", " };
            let json = format!("{{{script}\"{key}\": {value}}}");
            assert_told("a.json", &json, &key);
            // YAML 1.2 has all of JSON but lone surrogates.
            assert_told("a.yaml", &format!("- {json}\n"), &key);
            let toml = value.replace("\": ", "\" = ").replace("null", "\"\"");
            assert_told("a.toml", &format!("[[apps]]\nscript = 'a.js'\n'{key}' = {toml}\n"), &key);
        }
    }
}

#[test]
fn any_change_of_a_good_file_is_taken_or_refused_at_a_place() {
    for (file, good) in [("a.json", JSON5), ("a.yaml", YAML), ("a.toml", TOML)] {
        for seed in 1..2000_u64 {
            let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut text = good.to_owned();
            if dice.below(4) == 0 {
                text = text.replace('\n', "\r\n");
            }
            for _ in 0..=dice.below(3) {
                change(&mut text, &mut dice);
            }
            assert_told(file, &text, &seed);
        }
    }
}

fn change(text: &mut String, dice: &mut Dice) {
    let (one, other) = (dice.place(text), dice.place(text));
    let (from, to) = (one.min(other), one.max(other).min(one.min(other) + 40));
    let to = (to..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let part = text.get(from..to).unwrap_or_default().to_owned();
    match dice.below(5) {
        0 => text.replace_range(from..to, ""),
        1 => text.insert_str(one, PIECES[dice.below(PIECES.len())]),
        2 => text.replace_range(from..to, PIECES[dice.below(PIECES.len())]),
        3 => text.insert_str(dice.place(&text.clone()), &part),
        _ => text.truncate(one),
    }
}

#[test]
fn what_is_nested_without_end_is_refused_at_a_place() {
    for (file, open, close) in [
        ("a.json", "[", "]"),
        ("a.json", "{\"a\":", "}"),
        ("a.yaml", "[", "]"),
        ("a.yaml", "{a: ", "}"),
        ("a.yaml", "- ", ""),
        ("a.toml", "a = [", "]"),
    ] {
        for (depth, closes) in [(500, true), (100_000, true), (100_000, false)] {
            let mut text = open.repeat(depth);
            if closes {
                write!(text, "1{}", close.repeat(depth)).expect("a text takes everything");
            }
            assert_told(file, &text, &format!("{file} {open} {depth}"));
        }
    }
}
