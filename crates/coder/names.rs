//! Names of models as arguments: any text is one, and shells complete those that are known.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, Error};
use coder_hub::Catalog;

/// Takes any text, and tells shells the names of the catalog.
#[derive(Clone)]
pub(crate) struct Names;

impl TypedValueParser for Names {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<String, Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let entries = Catalog::built_in().models.iter().filter(|entry| entry.cannot_run.is_none());
        Some(Box::new(
            entries.map(|entry| PossibleValue::new(entry.name.as_str()).help(entry.about.as_str())),
        ))
    }
}
