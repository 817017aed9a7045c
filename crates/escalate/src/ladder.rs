use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::RungName;

/// Why a rung failed. Only the second kind says something about the model's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureClass {
    /// It could not be used: no device, out of memory, time out, context too long.
    Availability,
    /// Its work was wrong: parse, syntax, constraints, lint, test or review failed.
    Quality,
}

/// The order of rungs for each kind of failure. After the last one a person is needed. No rung is twice on one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ladders {
    /// After failures of availability (decision 1).
    pub availability: Vec<RungName>,
    /// After a request that was too long for a rung's context; that of `availability` where nobody said another (S2-09).
    pub context: Vec<RungName>,
    /// After failures of quality.
    pub quality: Vec<RungName>,
    /// For tasks of a type, in place of both (S0-40). Who does a task first is not theirs to say: routes and the task do.
    pub types: BTreeMap<String, Vec<RungName>>,
}
