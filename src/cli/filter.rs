//! `--filter NAME=VALUE` as Docker reads it: values of one name are alternatives, and each name must hold.

use std::{collections::BTreeMap, str::FromStr};

use regex::Regex;

use crate::error::{Error, Kind, Result};

/// One condition as it was given.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    name: String,
    value: String,
}

impl FromStr for Condition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Error::new(Kind::Invalid, format!("bad format of filter '{text}' (expected name=value)")))?;
        Ok(Self { name: name.trim().to_lowercase(), value: value.trim().to_owned() })
    }
}

/// All conditions of one command.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    by_name: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Filter<'a> {
    /// Refuses a name that is none of `known`.
    pub(super) fn new(conditions: &'a [Condition], known: &[&str]) -> Result<Self> {
        let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for Condition { name, value } in conditions {
            if !known.contains(&name.as_str()) {
                let what = format!("invalid filter '{name}'; it is one of {}", known.join(", "));
                return Err(Error::new(Kind::Invalid, what));
            }
            by_name.entry(name).or_default().push(value);
        }
        Ok(Self { by_name })
    }

    /// Refuses a value of `name` that is none of `known`.
    pub(super) fn values_of(&self, name: &str, known: &[&str]) -> Result<()> {
        match self.values(name).iter().find(|value| !known.contains(*value)) {
            None => Ok(()),
            Some(value) => {
                let what = format!("invalid filter '{name}={value}'; it is one of {}", known.join(", "));
                Err(Error::new(Kind::Invalid, what))
            }
        }
    }

    /// The values given for `name`.
    pub(super) fn values(&self, name: &str) -> &[&'a str] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The values given for `name`, which are numbers.
    pub(super) fn numbers(&self, name: &str) -> Result<Vec<i32>> {
        let number = |value: &&str| {
            let what = || Error::new(Kind::Invalid, format!("invalid filter '{name}={value}': it is no number"));
            value.parse().map_err(|_| what())
        };
        self.values(name).iter().map(number).collect()
    }

    /// The values given for `name` as regular expressions, as Docker reads names.
    pub(super) fn patterns(&self, name: &str) -> Result<Vec<Regex>> {
        let pattern = |value: &&str| {
            Regex::new(value).map_err(|error| {
                let what = format!("invalid filter '{name}={value}': it is no regular expression");
                Error::with_source(Kind::Invalid, what, error)
            })
        };
        self.values(name).iter().map(pattern).collect()
    }

    /// Whether `holds` for one of the values of `name`, or none was given.
    pub(super) fn any(&self, name: &str, holds: impl FnMut(&&'a str) -> bool) -> bool {
        let values = self.values(name);
        values.is_empty() || values.iter().any(holds)
    }

    /// Whether all labels that were asked for, each `KEY` or `KEY=VALUE`, are among `labels`.
    pub(super) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label").iter().all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(*wanted),
        })
    }

    /// The truth value of `name`, if it was given.
    pub(super) fn truth(&self, name: &str) -> Result<Option<bool>> {
        let truth = |value: &&str| match *value {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
            other => Err(Error::new(Kind::Invalid, format!("filter {name}={other}: it is neither true nor false"))),
        };
        self.values(name).last().map(truth).transpose()
    }
}

/// `KEY=VALUE` of a label; without a value it is empty.
pub(super) fn label(text: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(Error::new(Kind::Invalid, format!("label '{text}' has no name; write KEY=VALUE")));
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Condition, Filter};

    #[test]
    fn values_of_a_name_are_alternatives_and_labels_all_hold() {
        let given: Vec<Condition> =
            ["name=a", "name=b", "label=k", "label=l=1", "dangling=true"].map(|text| text.parse().unwrap()).to_vec();
        let filter = Filter::new(&given, &["name", "label", "dangling"]).unwrap();
        assert!(filter.any("name", |value| *value == "b") && !filter.any("name", |value| *value == "c"));
        assert!(filter.any("other", |_| false));
        assert_eq!(filter.truth("dangling").unwrap(), Some(true));
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert!(filter.labels(&labels(&[("k", "x"), ("l", "1")])));
        assert!(!filter.labels(&labels(&[("k", "x"), ("l", "2")])));
        assert!(Filter::new(&given, &["name"]).is_err());
        assert!("name".parse::<Condition>().is_err());
    }
}
