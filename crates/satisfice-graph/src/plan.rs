use std::{fmt, str::FromStr};

/// Which stored neighbours a budget chooses first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Share of new edges among the node's in-edges, n / (n + d). Source: OMEGA (arXiv 2501.08547).
    #[default]
    Ratio,
    /// Share of new edges times the weight with which the queries read the node: a change counts as
    /// far as it is seen.
    Reach,
    /// The weight with which the queries read the node, alone.
    Importance,
    /// In-degree, highest first.
    Degree,
    /// A fixed shuffle of the nodes: what any policy has to beat.
    Random,
    /// The true change of the node's last stored value times the weight with which the queries read
    /// it. It computes every neighbour first, so it saves nothing: it shows what could be had.
    Oracle,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Self; 6] = [
        Self::Ratio,
        Self::Reach,
        Self::Importance,
        Self::Degree,
        Self::Random,
        Self::Oracle,
    ];

    /// Its name in plans, such as `ratio`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ratio => "ratio",
            Self::Reach => "reach",
            Self::Importance => "importance",
            Self::Degree => "degree",
            Self::Random => "random",
            Self::Oracle => "oracle",
        }
    }

    /// The policy of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// How much of the stale neighbourhood is computed anew for a batch of queries.
///
/// ```
/// use satisfice_graph::{Plan, Policy};
///
/// assert_eq!("recompute:25%".parse(), Ok(Plan::recompute(0.25)));
/// assert_eq!(Plan::recompute(0.025).to_string(), "recompute:2.5%");
/// let random = Plan::Recompute { budget: 0.1, policy: Policy::Random };
/// assert_eq!("recompute:10%:random".parse(), Ok(random));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Plan {
    /// Only the queries are computed; every stored row is read as it was precomputed.
    Precomputed,
    /// The queries are computed, and every stored neighbour of theirs takes its new edges in: what its
    /// stored sources were reduced to is kept as it was, with the factors, values and coefficients
    /// that they had without the batch.
    Refresh,
    /// The queries, and the stored neighbours that the queries change most, are computed.
    Recompute {
        /// Share of the batch's unique direct neighbours, 0 to 1.
        budget: f64,
        /// Which of them.
        policy: Policy,
    },
    /// Whatever the new nodes change is computed: the answer of the framework that trained the
    /// model, on the graph with the queries attached.
    Exact,
}

impl Plan {
    /// Selective recomputation by the default policy; `budget` is 0 to 1.
    pub fn recompute(budget: f64) -> Self {
        Self::Recompute {
            budget,
            policy: Policy::default(),
        }
    }

    /// Whether the plan looks at its own outcome, so that nothing of it can be known before.
    pub(crate) fn is_oracle(&self) -> bool {
        matches!(
            self,
            Self::Recompute {
                policy: Policy::Oracle,
                ..
            }
        )
    }
}

/// A text that names no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a plan: use `pe`, `refresh`, `recompute:<budget>` such as `recompute:25%`, or \
     `exact`; a policy may follow the budget, as in `recompute:25%:reach`"
)]
pub struct UnknownPlan {
    /// The text given.
    pub text: String,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Precomputed => f.write_str("pe"),
            Self::Refresh => f.write_str("refresh"),
            // Rounding away what binary fractions add: 0.07 * 100 is 7.000000000000001.
            Self::Recompute { budget, policy } => {
                write!(f, "recompute:{}%", (budget * 1e8).round() / 1e6)?;
                match policy {
                    Policy::Ratio => Ok(()),
                    other => write!(f, ":{}", other.name()),
                }
            }
            Self::Exact => f.write_str("exact"),
        }
    }
}

impl FromStr for Plan {
    type Err = UnknownPlan;

    fn from_str(text: &str) -> Result<Self, UnknownPlan> {
        match text {
            "pe" => return Ok(Self::Precomputed),
            "refresh" => return Ok(Self::Refresh),
            "exact" => return Ok(Self::Exact),
            _ => {}
        }
        let unknown = || UnknownPlan {
            text: text.to_owned(),
        };
        let rest = text.strip_prefix("recompute:").ok_or_else(unknown)?;
        let (budget, policy) = match rest.split_once(':') {
            Some((budget, policy)) => (budget, Policy::from_name(policy).ok_or_else(unknown)?),
            None => (rest, Policy::default()),
        };
        let (number, unit) = match budget.strip_suffix('%') {
            Some(percent) => (percent, 100.0),
            None => (budget, 1.0),
        };
        let budget = number.parse::<f64>().map_err(|_| unknown())? / unit;
        if (0.0..=1.0).contains(&budget) {
            Ok(Self::Recompute { budget, policy })
        } else {
            Err(unknown())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_read_and_written() {
        for text in [
            "pe",
            "exact",
            "refresh",
            "recompute:0%",
            "recompute:7%",
            "recompute:12.5%",
            "recompute:100%",
            "recompute:5%:oracle",
        ] {
            assert_eq!(text.parse::<Plan>().unwrap().to_string(), text);
        }
        assert_eq!("recompute:0.1".parse(), Ok(Plan::recompute(0.1)));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "PE",
            "recompute",
            "recompute:",
            "recompute:x%",
            "recompute:5%:best",
            "recompute:5%:",
            "recompute:101%",
            "recompute:-1%",
            "recompute:NaN",
            "recompute:inf",
            "refresh:10%",
        ] {
            assert!(text.parse::<Plan>().is_err(), "{text}");
        }
    }
}
