//! Values as people write them: times, counts, words, variables. Text in, checked value or one clear line out.

use std::str::FromStr;

use croner::Cron;
use croner::errors::CronError;
use jiff::Zoned;
use oxherd_core::{AppSpec, Sockets, Span, SpecError, file_stem};

use crate::diagnostics::shown;
use crate::environment;

/// The longest time that may be asked for: a year.
const SPAN_MAX_MS: u64 = 365 * 24 * 3_600_000;

/// The file that keeps nothing.
pub const NOWHERE: &str = "/dev/null";
/// What `time: true` puts before each line.
pub const TIME_FORMAT: &str = "YYYY-MM-DDTHH:mm:ss";

/// How many workers are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// This many.
    Count(u32),
    /// One per CPU.
    PerCpu,
    /// Two per CPU.
    TwicePerCpu,
    /// One per CPU, but so many less.
    AllBut(u32),
}

/// A variable for the workers' environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub key: String,
    pub value: String,
}

/// What `--env` means where it also chooses among a file's environments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvChoice {
    /// `K=V`: one more variable.
    Variable(Variable),
    /// `NAME`: the file's `env_<name>`.
    Name(String),
}

/// Words split at spaces; single and double quotes keep spaces together. Within double quotes, `\"` is a quote and `\\` is a
/// backslash; nothing else is escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(pub Vec<String>);

/// How much of the connections each slot gets, in proportion: whole numbers with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights(pub Vec<u32>);

/// Whether a log file's name means that there is to be none: PM2 has two words for it.
pub fn is_nowhere(path: &str) -> bool {
    matches!(path, NOWHERE | "NULL")
}

/// The name of a file for all output of an app, where nobody chose one.
pub fn usual_log(name: &str) -> String {
    format!("{}.log", file_stem(name))
}

impl Instances {
    /// The number of workers on a machine with this many CPUs; at least 1 unless 0 was asked for.
    pub fn resolve(self, cpus: usize) -> u32 {
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
        match self {
            Self::Count(count) => count,
            Self::PerCpu => cpus,
            Self::TwicePerCpu => cpus.saturating_mul(2),
            Self::AllBut(less) => cpus.saturating_sub(less).max(1),
        }
    }
}

impl FromStr for Instances {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| digits.parse::<u32>().ok().filter(|number| *number > 0);
        match text {
            "max" => return Ok(Self::PerCpu),
            "io" => return Ok(Self::TwicePerCpu),
            _ => {}
        }
        let count = match text.strip_prefix('-') {
            Some(digits) => number(digits).map(Self::AllBut),
            None => number(text).map(Self::Count),
        };
        count.ok_or_else(|| {
            "give a number from 1, max (one per CPU), io (two) or -1 (all CPUs but one)".into()
        })
    }
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(format!("it has no `=`: write {}=value", shown(text)));
        };
        if key.is_empty() {
            return Err("it has no name before the `=`".into());
        }
        if environment::is_ours(key) {
            return Err(format!("{key} is set by oxherd itself"));
        }
        Ok(Self { key: key.into(), value: value.into() })
    }
}

impl FromStr for EnvChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('=') {
            text.parse().map(Self::Variable)
        } else {
            parse_env_name(text).map(Self::Name)
        }
    }
}

impl FromStr for Words {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match quote {
                Some(open) if c == open => quote = None,
                Some('"') if c == '\\' => {
                    let escaped = chars.next_if(|next| matches!(next, '"' | '\\'));
                    word.get_or_insert_default().push(escaped.unwrap_or(c));
                }
                Some(_) => word.get_or_insert_default().push(c),
                None if c == '"' || c == '\'' => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                None if c.is_whitespace() => words.extend(word.take()),
                None => word.get_or_insert_default().push(c),
            }
        }
        if let Some(open) = quote {
            return Err(format!("a quote ({open}) is not closed"));
        }
        words.extend(word);
        Ok(Self(words))
    }
}

impl FromStr for Weights {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("give numbers with commas between them, such as 3,1".into());
        }
        text.split(',').map(|weight| parse_weight(weight.trim())).collect::<Result<_, _>>().map(Self)
    }
}

/// Reads `250ms`, `1.5s`, `30s`, `2m`, `1h`, `7d`; only 0 needs no unit.
pub fn parse_span(text: &str) -> Result<Span, String> {
    if text == "0" {
        return Ok(Span::ZERO);
    }
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 24 * 3_600_000,
        "" => return Err(format!("it has no unit: write {text}ms, {text}s, {text}m or {text}h")),
        _ => return Err("write a number and its unit, such as 250ms, 1.5s, 30s, 2m or 1h".into()),
    };
    let millis = parse_decimal(number, unit_ms).ok_or("it is no number with a unit (try 30s)")?;
    if millis > SPAN_MAX_MS {
        return Err("it is longer than a year".into());
    }
    Ok(Span::from_millis(millis))
}

/// A slot's weight.
pub fn parse_weight(text: &str) -> Result<u32, String> {
    let weight = text.parse::<u32>().ok().filter(|weight| *weight <= AppSpec::WEIGHT_MAX);
    weight.ok_or_else(|| format!("a weight is a whole number from 0 to {}, not {text}", AppSpec::WEIGHT_MAX))
}

/// A whole number from 1.
pub fn parse_positive(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("give a whole number from 1 to {}", u32::MAX)),
    }
}

/// The name or path of an interpreter.
pub fn parse_interpreter(text: &str) -> Result<String, String> {
    match text.split_once('@') {
        Some((name, _)) if !text.contains('/') => Err(format!(
            "no version of {name} is installed or chosen here; give the path of the program that is wanted"
        )),
        _ => Ok(text.into()),
    }
}

/// When the clock reloads an app: five fields, or six with seconds first.
pub fn parse_cron(text: &str) -> Result<String, String> {
    const WANTED: &str = "write five fields (`0 4 * * *`), or six with seconds first";
    let parsed = text.parse::<Cron>().map_err(|error| match error {
        CronError::EmptyPattern => WANTED.into(),
        CronError::InvalidPattern(why)
        | CronError::IllegalCharacters(why)
        | CronError::ComponentError(why) => {
            format!("{}; {WANTED}", why.trim_end_matches('.'))
        }
        other => format!("{other}; {WANTED}"),
    })?;
    // It may be well written and never come, such as 30 February.
    match parsed.find_next_occurrence(&Zoned::now(), false) {
        Ok(_) => Ok(text.into()),
        Err(_) => Err("this time never comes".into()),
    }
}

/// A name that can stand in a line, and means one app.
pub fn parse_name(text: &str) -> Result<String, String> {
    AppSpec::check_name(text).map(|()| text.into()).map_err(|error| match error {
        SpecError::NoName => "a name has at least one letter".into(),
        other => other.to_string(),
    })
}

/// The name of an environment of a file.
fn parse_env_name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.contains(char::is_control) {
        return Err("a name has at least one letter and no control characters".into());
    }
    Ok(text.into())
}

/// `digits[.digits]` times `scale`, rounded down; nothing when it is malformed. Saturates.
fn parse_decimal(text: &str, scale: u64) -> Option<u64> {
    /// More digits than this behind the point are less than a millisecond in every unit.
    const FRACTION_DIGITS_MAX: usize = 9;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let whole = whole.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(scale);
    let mut rest = 0;
    let mut place = scale * 10_u64.pow(FRACTION_DIGITS_MAX as u32);
    for digit in fraction.bytes().take(FRACTION_DIGITS_MAX) {
        place /= 10;
        rest += u64::from(digit - b'0') * place;
    }
    Some(whole.saturating_add(rest / 10_u64.pow(FRACTION_DIGITS_MAX as u32)))
}

/// How workers come by their sockets, where that was said.
pub type SocketsChoice = Chosen<Sockets>;

/// A choice that may be left to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen<T>(Option<T>);

impl<T> Chosen<T> {
    /// What was chosen, if anything was.
    pub fn get(self) -> Option<T> {
        self.0
    }
}

pub fn parse_sockets(text: &str) -> Result<SocketsChoice, String> {
    match text {
        "auto" => Ok(Chosen(None)),
        other => other
            .parse()
            .map(|sockets| Chosen(Some(sockets)))
            .map_err(|_| "give auto, channel, universal, listen-fds or none".into()),
    }
}

/// A number of bytes: `4096`, `512K`, `64M`, `1G`.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let wrong = || "give a size such as 4096, 512K, 64M or 1G".to_owned();
    let (digits, unit) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 1 << 10),
        None => match text.strip_suffix(['M', 'm']) {
            Some(digits) => (digits, 1 << 20),
            None => text.strip_suffix(['G', 'g']).map_or((text, 1), |digits| (digits, 1 << 30)),
        },
    };
    let count: usize = digits.parse().map_err(|_| wrong())?;
    count.checked_mul(unit).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_powers_of_1024() {
        assert_eq!(["1", "2K", "3m", "1G"].map(parse_size), [Ok(1), Ok(2048), Ok(3 << 20), Ok(1 << 30)]);
        assert!(
            ["", "0", "M", "-1", "1T", "99999999999999999999G"].iter().all(|text| parse_size(text).is_err())
        );
    }

    #[test]
    fn weights_are_whole_numbers_with_commas_between_them() {
        assert_eq!("3, 1,0".parse(), Ok(Weights(vec![3, 1, 0])));
        for wrong in ["", " ", "3,", ",", "3;1", "-1", "1.5", "1000001", "99999999999"] {
            assert!(wrong.parse::<Weights>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_built_yet_is_said_to_be_so() {
        assert_eq!(parse_sockets("universal").map(Chosen::get), Ok(Some(Sockets::Universal)));
        assert_eq!(parse_sockets("listen-fds").map(Chosen::get), Ok(Some(Sockets::ListenFds)));
        assert_eq!(parse_sockets("auto").map(Chosen::get), Ok(None));
        assert!(parse_sockets("seccomp").is_err_and(|why| why.contains("universal")));
        assert_eq!(parse_sockets("none").map(Chosen::get), Ok(Some(Sockets::None)));
    }

    #[test]
    fn times_have_units() {
        let millis = |text| parse_span(text).map(Span::as_millis);
        let given = ["0", "250ms", "1.5s", "30s", "2m", "0.25m", "1h", "1.0005s", "0ms"];
        let wanted = [0, 250, 1500, 30_000, 120_000, 15_000, 3_600_000, 1000, 0];
        assert_eq!(given.map(millis), wanted.map(Ok));
        for wrong in ["", "30", "s", "1.s", ".5s", "1..5s", "1e3s", "5 s", "-5s", "9000h", "1sec", "٣s"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
        assert!(parse_span("99999999999999999999999h").is_err());
    }

    #[test]
    fn a_bare_number_is_told_how_to_go_on() {
        assert_eq!(parse_span("30"), Err("it has no unit: write 30ms, 30s, 30m or 30h".into()));
    }

    #[test]
    fn instances_follow_the_cpus() {
        let on = |cpus: usize| move |text: &str| text.parse::<Instances>().map(|it| it.resolve(cpus));
        assert_eq!(["3", "max", "io", "-1", "-3"].map(on(4)), [3, 4, 8, 3, 1].map(Ok));
        assert_eq!(["max", "io", "-1"].map(on(1)), [1, 2, 1].map(Ok));
        for wrong in ["0", "x", "", "-", "-0", "1.5", "MAX", "99999999999"] {
            assert!(wrong.parse::<Instances>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_split_at_spaces_outside_quotes() {
        let words = |text: &str| text.parse::<Words>().map(|words| words.0.join("|"));
        assert_eq!(words("  --inspect  -r ./a.js "), Ok("--inspect|-r|./a.js".into()));
        assert_eq!(words("--title='a b' \"c  d\" e\"f g\"h"), Ok("--title=a b|c  d|ef gh".into()));
        assert_eq!(words("'it\"s' \"don't\" ''"), Ok("it\"s|don't|".into()));
        assert_eq!(words(r#""say \"hi\" \\ \d" 'a\b' a\b"#), Ok(r#"say "hi" \ \d|a\b|a\b"#.into()));
        assert_eq!(words(r#""a\""#), Err("a quote (\") is not closed".into()));
        assert_eq!("".parse(), Ok(Words::default()));
        assert_eq!(words("a 'b"), Err("a quote (') is not closed".into()));
    }

    #[test]
    fn variables_need_a_name_that_is_free() {
        let pair = |text: &str| text.parse::<Variable>().map(|it| (it.key, it.value));
        assert_eq!(pair("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(pair("A="), Ok(("A".into(), String::new())));
        assert_eq!(pair("A"), Err("it has no `=`: write A=value".into()));
        assert!(pair("=x").is_err());
        assert!(pair("NODE_CHANNEL_FD=3").is_err());
    }

    #[test]
    fn an_environment_is_chosen_by_name_or_added_to() {
        let name = |text: &str| match text.parse::<EnvChoice>() {
            Ok(EnvChoice::Variable(variable)) => Ok(variable.key),
            Ok(EnvChoice::Name(name)) => Ok(name),
            Err(why) => Err(why),
        };
        assert_eq!(name("A=b"), Ok("A".into()));
        assert_eq!(name("production"), Ok("production".into()));
        assert!(name("=x").is_err() && name("").is_err());
    }

    #[test]
    fn counts_start_at_one() {
        assert_eq!(parse_positive("1"), Ok(1));
        assert!(parse_positive("0").is_err());
        assert!(parse_positive("-1").is_err());
    }
}
