//! Which rung is asked next, after what the ones before it came to (S0-30 to S0-33, decision 1).
//!
//! Pure data and pure functions. A rung is a name here; what stands behind it, nobody in this crate knows.

use serde::{Deserialize, Serialize};

use crate::ledger::Record;

/// The order of rungs for each kind of failure. After the last one a person is needed.
///
/// A rung is entered once in a task, so every climb ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ladders {
    /// Who is asked first.
    pub first: String,
    /// Every rung that there is, the least able first. A rung that is not in it counts as the most able.
    pub order: Vec<String>,
    /// Who is asked after failures that say nothing about a model's work.
    pub availability: Vec<String>,
    /// Who is asked after wrong work.
    pub quality: Vec<String>,
}

impl Default for Ladders {
    /// The local model, and nobody after it.
    fn default() -> Self {
        Ladders::only("local")
    }
}

impl Ladders {
    /// One rung, and nobody after it.
    pub fn only(rung: &str) -> Ladders {
        let all = vec![rung.to_owned()];
        Ladders { first: rung.to_owned(), order: all.clone(), availability: all.clone(), quality: all }
    }

    /// The rung after the last one of this history; None if there is none left.
    ///
    /// Once a model's work was wrong, only the ladder of quality counts, and it goes up only. As long as none was, what
    /// is above on the ladder of availability is tried first, and then what is below, down to the local model: with the
    /// cloud out of reach work goes on, maybe at lower quality (S3-32).
    pub(super) fn next(&self, history: &[Record]) -> Option<&str> {
        let tried: Vec<&str> = history.iter().filter_map(Record::rung).collect();
        if history.iter().any(Record::is_wrong) {
            let place = self.above(&self.quality, &tried);
            return place.map(|place| self.quality[place].as_str());
        }
        self.after(&tried)
    }

    /// The rung after these, the last of which could not be used: what is above it on the ladder of availability, and then
    /// what is below, from the top (S3-32).
    pub fn after(&self, tried: &[&str]) -> Option<&str> {
        let below = || self.availability.iter().rposition(|rung| !tried.contains(&rung.as_str()));
        let place = self.above(&self.availability, tried).or_else(|| tried.last().and_then(|_| below()));
        place.map(|place| self.availability[place].as_str())
    }

    /// The place on a ladder of the first rung above the last one of these that is none of them.
    fn above(&self, ladder: &[String], tried: &[&str]) -> Option<usize> {
        let from = tried.last()?;
        let at = ladder.iter().position(|rung| rung == from);
        let rank = self.rank(from);
        let mut above = ladder.iter().enumerate().filter(|(place, rung)| match at {
            Some(at) => *place > at,
            None => self.rank(rung) > rank,
        });
        above.find(|(_, rung)| !tried.contains(&rung.as_str())).map(|(place, _)| place)
    }

    fn rank(&self, rung: &str) -> usize {
        self.order.iter().position(|other| other == rung).unwrap_or(usize::MAX)
    }
}
