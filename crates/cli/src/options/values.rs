//! Values that PM2 writes in its own way: times without a unit, several names in one word.

use oxherd_config::values::{self, Instances};
use oxherd_engine::core::Span;

use crate::persona;

/// A time; a bare number is in milliseconds, as PM2 has it.
pub(crate) fn parse_ms(text: &str) -> Result<Span, String> {
    bare(text).map_or_else(|| values::parse_span(text), |number| values::parse_span(&format!("{number}ms")))
}

/// A time; a bare number is in seconds, as PM2 has it.
pub(crate) fn parse_delay(text: &str) -> Result<Span, String> {
    bare(text).map_or_else(|| values::parse_span(text), |number| values::parse_span(&format!("{number}s")))
}

fn bare(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// An exit code.
pub(crate) fn parse_exit_code(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| "give exit codes, such as 0 or 3,143".into())
}

/// How many workers. PM2's 0 is one for each CPU.
pub(crate) fn parse_instances(text: &str) -> Result<Instances, String> {
    if persona::is_pm2() && text == "0" { Ok(Instances::PerCpu) } else { text.parse() }
}

/// The number of workers where none was asked for.
pub(crate) fn usual_instances() -> Instances {
    if persona::is_pm2() { Instances::Count(1) } else { Instances::PerCpu }
}

/// The time from the stop signal to SIGKILL where none was asked for.
pub(crate) fn usual_kill_timeout() -> &'static str {
    if persona::is_pm2() { "1600ms" } else { "5s" }
}

/// The polite signal where none was asked for.
pub(crate) fn usual_stop_signal() -> &'static str {
    if persona::is_pm2() { "SIGINT" } else { "SIGTERM" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_numbers_have_pm2_s_units() {
        assert_eq!((parse_ms("1600"), parse_ms("2s")), (Ok(Span::from_millis(1600)), Ok(Span::from_secs(2))));
        assert_eq!(
            (parse_delay("3"), parse_delay("4000ms")),
            (Ok(Span::from_secs(3)), Ok(Span::from_secs(4)))
        );
        assert!(parse_ms("").is_err() && parse_ms("-1").is_err() && parse_ms("1x").is_err());
    }
}
