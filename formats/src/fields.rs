//! Choosing entries by their fields, such as the service of an address range of a cloud.

use std::collections::BTreeMap;

use crate::{Format, ReadError};

/// The fields that an entry must have: of each name that is asked for, one of the values.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted(BTreeMap<String, Vec<String>>);

impl Wanted {
    /// Adds a value that entries may have in the field `name`.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.entry(name.into()).or_default().push(value.into());
    }

    /// Whether no field is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names that are asked for.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether this value of any field is asked for.
    pub(crate) fn has_value(&self, wanted: &str) -> bool {
        self.0.values().flatten().any(|value| value.eq_ignore_ascii_case(wanted))
    }

    /// Whether an entry is wanted whose field of a name `has` a value. Names of lists, sets and tables are compared exactly, and
    /// in other values upper and lower case are the same.
    pub(crate) fn matches(&self, has: impl Fn(&str, &str) -> bool) -> bool {
        self.0.iter().all(|(name, values)| values.iter().any(|value| has(name, value)))
    }

    /// Checks that entries of `format` have the fields that are asked for. Those of formats that take any name are checked when they are
    /// read.
    pub(crate) fn check(&self, format: Format) -> Result<(), ReadError> {
        if format.has_any_field() {
            return Ok(());
        }
        match self.names().find(|name| !format.fields().contains(name)) {
            Some(field) => Err(ReadError::NoField { format, field: field.to_owned() }),
            None => Ok(()),
        }
    }
}
