use satisfice_core::ErrorKind;

/// Numbers that no plan can be made from.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// There is nothing to choose from. The caller's fault; a retry is of no use.
    #[error("there is no {what} to choose from")]
    Nothing {
        /// What is missing.
        what: &'static str,
    },
    /// A number is not finite, or outside what it may be. The fault of whoever measured or sent it;
    /// a retry is of no use.
    #[error("{what} is {value}: it has to be {range}")]
    OutOfRange {
        /// Which number.
        what: String,
        /// Its value.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
    /// More than this planner holds. A smaller one may succeed.
    #[error("{what}: {given}, at most {most}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many were given.
        given: usize,
        /// How many there may be.
        most: usize,
    },
    /// A position that names no strategy. The caller's fault; a retry is of no use.
    #[error("strategy {index} was named, but there are {strategies}")]
    UnknownStrategy {
        /// The position given.
        index: usize,
        /// Strategies that there are.
        strategies: usize,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Nothing { .. } | Self::OutOfRange { .. } => ErrorKind::InvalidInput,
            Self::TooMany { .. } => ErrorKind::TooLarge,
            Self::UnknownStrategy { .. } => ErrorKind::Internal,
        }
    }
}

/// `value` if `holds`, which NaN never does.
pub(crate) fn checked(
    what: impl FnOnce() -> String,
    value: f64,
    range: &'static str,
    holds: impl FnOnce(f64) -> bool,
) -> Result<f64, Error> {
    if value.is_finite() && holds(value) {
        Ok(value)
    } else {
        Err(Error::OutOfRange {
            what: what(),
            value,
            range,
        })
    }
}
