//! Which versions of a model are served.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// Which of the versions that are there are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum VersionPolicy {
    /// So many with the highest numbers; at least 1.
    Latest(usize),
    /// All.
    All,
    /// These.
    Specific(BTreeSet<u64>),
}

impl Default for VersionPolicy {
    /// The highest version.
    fn default() -> Self {
        Self::Latest(1)
    }
}

impl VersionPolicy {
    /// Those of the versions `there` that are served; [`Specific`](Self::Specific) ones whether they
    /// are there or not.
    pub fn select(&self, there: &BTreeSet<u64>) -> BTreeSet<u64> {
        match self {
            Self::Latest(count) => there.iter().rev().take((*count).max(1)).copied().collect(),
            Self::All => there.clone(),
            Self::Specific(versions) => versions.clone(),
        }
    }
}

/// A text that is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no version policy: `latest`, `latest:N`, `all`, or numbers separated by commas"
)]
pub struct VersionPolicyError {
    text: String,
}

impl FromStr for VersionPolicy {
    type Err = VersionPolicyError;

    fn from_str(text: &str) -> Result<Self, VersionPolicyError> {
        let wrong = || VersionPolicyError {
            text: crate::clip::clip(text).into_owned(),
        };
        match text.split_once(':') {
            None if text == "all" => Ok(Self::All),
            None if text == "latest" => Ok(Self::Latest(1)),
            Some(("latest", count)) => match count.parse() {
                Ok(count) if count > 0 => Ok(Self::Latest(count)),
                _ => Err(wrong()),
            },
            _ => {
                let version = |number: &str| number.trim().parse().ok().filter(|&v: &u64| v > 0);
                let versions: Option<BTreeSet<u64>> = text.split(',').map(version).collect();
                versions.map(Self::Specific).ok_or_else(wrong)
            }
        }
    }
}

impl TryFrom<String> for VersionPolicy {
    type Error = VersionPolicyError;

    fn try_from(text: String) -> Result<Self, VersionPolicyError> {
        text.parse()
    }
}

impl From<VersionPolicy> for String {
    fn from(policy: VersionPolicy) -> Self {
        policy.to_string()
    }
}

impl fmt::Display for VersionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest(count) => write!(f, "latest:{count}"),
            Self::All => f.write_str("all"),
            Self::Specific(versions) => {
                let numbers: Vec<String> = versions.iter().map(ToString::to_string).collect();
                f.write_str(&numbers.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(policy: &str) -> Vec<u64> {
        let policy: VersionPolicy = policy.parse().unwrap();
        assert_eq!(policy.to_string().parse(), Ok(policy.clone()));
        policy.select(&[1, 2, 10].into()).into_iter().collect()
    }

    #[test]
    fn policies_select() {
        assert_eq!(select("latest"), [10]);
        assert_eq!(select("latest:2"), [2, 10]);
        assert_eq!(select("latest:9"), [1, 2, 10]);
        assert_eq!(select("all"), [1, 2, 10]);
        assert_eq!(select("2, 7"), [2, 7]);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", "latest:0", "latest:x", "newest", "0", "1,,2", "1,x", "-1", "all:2",
        ] {
            assert!(text.parse::<VersionPolicy>().is_err(), "{text}");
        }
    }
}
