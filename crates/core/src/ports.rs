//! The ports at which listeners are lent.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Some ports, or all of them: `80,443,8000-8999`, `all`. It is told as such a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ports(Vec<PortRange>);

/// Ports from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest; at least 1.
    pub from: u16,
    /// The highest; not below the lowest.
    pub to: u16,
}

const ALL: &str = "all";

impl Ports {
    /// Whether nothing was chosen: then it is every port.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the port is among them. Port 0, any free one, never is.
    pub fn contains(&self, port: u16) -> bool {
        port != 0 && (self.is_all() || self.0.iter().any(|range| (range.from..=range.to).contains(&port)))
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == ALL {
            return Ok(Self::default());
        }
        let wrong = || format!("`{text}` is no list of ports: 80,443,8000-8999 is one");
        let port = |digits: &str| digits.trim().parse::<u16>().ok().filter(|port| *port != 0);
        let range = |part: &str| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let range = PortRange { from: port(from)?, to: port(to)? };
            (range.from <= range.to).then_some(range)
        };
        text.split(',').map(|part| range(part).ok_or_else(wrong)).collect::<Result<_, _>>().map(Self)
    }
}

impl TryFrom<String> for Ports {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Ports> for String {
    fn from(ports: Ports) -> Self {
        ports.to_string()
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str(ALL);
        }
        for (place, PortRange { from, to }) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            if from == to {
                write!(f, "{comma}{from}")?;
            } else {
                write!(f, "{comma}{from}-{to}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        let ports: Ports = "80,443,8000-8999".parse().unwrap();
        assert_eq!(ports.to_string(), "80,443,8000-8999");
        assert!([80, 443, 8000, 8999].into_iter().all(|port| ports.contains(port)));
        assert!(![0, 81, 7999, 9000].into_iter().any(|port| ports.contains(port)));
        assert_eq!(Ports::default().to_string().parse(), Ok(Ports::default()));
        assert_eq!(serde_json::to_string(&ports).unwrap(), "\"80,443,8000-8999\"");
        assert!(serde_json::from_str::<Ports>("\"9-8\"").is_err());
        assert!(Ports::default().contains(1) && !Ports::default().contains(0));
        for wrong in ["", "0", "80,", "9-8", "x", "65536", "1-2-3", "-"] {
            assert!(wrong.parse::<Ports>().is_err(), "{wrong}");
        }
    }
}
