use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A rung of a ladder. It has two names: the model family that task files use, and the price tier that
/// routing rules use. It is written by the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// The model in this process: "local" or "free".
    #[serde(alias = "free")]
    Local,
    /// A small cloud model: "haiku" or "cheap".
    #[serde(alias = "cheap")]
    Haiku,
    /// A middle cloud model: "sonnet" or "balanced".
    #[serde(alias = "balanced")]
    Sonnet,
    /// The best cloud model: "opus" or "best".
    #[serde(alias = "best")]
    Opus,
}

impl Rung {
    /// Every rung, cheapest first.
    pub const ALL: [Rung; 4] = [Rung::Local, Rung::Haiku, Rung::Sonnet, Rung::Opus];

    /// The name in task files.
    pub fn name(self) -> &'static str {
        match self {
            Rung::Local => "local",
            Rung::Haiku => "haiku",
            Rung::Sonnet => "sonnet",
            Rung::Opus => "opus",
        }
    }

    /// The name of its price tier.
    pub fn tier(self) -> &'static str {
        match self {
            Rung::Local => "free",
            Rung::Haiku => "cheap",
            Rung::Sonnet => "balanced",
            Rung::Opus => "best",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Rung {
    type Err = Error;

    fn from_str(name: &str) -> Result<Rung, Error> {
        let wanted = name.trim();
        let is = |rung: &Rung| {
            wanted.eq_ignore_ascii_case(rung.name()) || wanted.eq_ignore_ascii_case(rung.tier())
        };
        Rung::ALL.into_iter().find(is).ok_or_else(|| Error::UnknownRung { name: name.to_owned() })
    }
}

/// Why a rung failed. Only the second kind says something about the model's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureClass {
    /// It could not be used: no device, out of memory, time out, context too long.
    Availability,
    /// Its work was wrong: parse, syntax, constraints, lint, test or review failed.
    Quality,
}

/// The order of rungs for each kind of failure. After the last one a person is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ladders {
    /// After failures of availability.
    pub availability: Vec<Rung>,
    /// After failures of quality.
    pub quality: Vec<Rung>,
}

impl Default for Ladders {
    /// Not available: local, cheap, balanced. Wrong: local, balanced, best.
    fn default() -> Self {
        Ladders {
            availability: vec![Rung::Local, Rung::Haiku, Rung::Sonnet],
            quality: vec![Rung::Local, Rung::Sonnet, Rung::Opus],
        }
    }
}

impl Ladders {
    /// The rung to try after `failed` failed in this way; None if it was the last one.
    ///
    /// A rung that is not on the ladder is followed by the first one above it.
    pub fn next(&self, failed: Rung, class: FailureClass) -> Option<Rung> {
        let ladder = match class {
            FailureClass::Availability => &self.availability,
            FailureClass::Quality => &self.quality,
        };
        match ladder.iter().position(|rung| *rung == failed) {
            Some(at) => ladder.get(at + 1).copied(),
            None => ladder.iter().copied().find(|rung| *rung > failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_mean_the_rung() {
        for rung in Rung::ALL {
            assert_eq!(rung.name().parse(), Ok(rung));
            assert_eq!(rung.tier().to_uppercase().parse(), Ok(rung));
        }
        assert!("gpt".parse::<Rung>().unwrap_err().to_string().contains("`gpt`"));
    }

    #[test]
    fn the_two_ladders_differ() {
        use FailureClass::{Availability, Quality};
        let ladders = Ladders::default();
        assert_eq!(ladders.next(Rung::Local, Availability), Some(Rung::Haiku));
        assert_eq!(ladders.next(Rung::Sonnet, Availability), None);
        assert_eq!(ladders.next(Rung::Local, Quality), Some(Rung::Sonnet));
        assert_eq!(ladders.next(Rung::Haiku, Quality), Some(Rung::Sonnet));
        assert_eq!(ladders.next(Rung::Opus, Quality), None);
    }

    #[test]
    fn ladders_are_data_with_either_name() {
        let text = r#"{"availability": ["free", "cheap"], "quality": ["local", "best"]}"#;
        let ladders: Ladders = serde_json::from_str(text).unwrap();
        assert_eq!(ladders.availability, [Rung::Local, Rung::Haiku]);
        let written = serde_json::to_string(&ladders).unwrap();
        assert_eq!(written, r#"{"availability":["local","haiku"],"quality":["local","opus"]}"#);
        assert!(serde_json::from_str::<Ladders>(r#"{"availability": ["x"], "quality": []}"#).is_err());
    }
}
