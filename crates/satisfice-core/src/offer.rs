/// What the quality of a plan was measured as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Share of calibration inputs whose label was predicted.
    Accuracy,
    /// Share of calibration inputs on which the plan agrees with the dearest one.
    Fidelity,
}

impl Measure {
    /// `"accuracy"` or `"fidelity"`, as parameters and files name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Fidelity => "fidelity",
        }
    }
}

/// How good answers are, measured on a calibration set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// What was measured.
    pub measure: Measure,
    /// Expected share, 0 to 1.
    pub expected: f64,
    /// Lower 95 % confidence bound of that share, at most `expected`.
    pub lower: f64,
}

/// One way to answer one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The way, as the request parameter `plan` would name it.
    pub plan: String,
    /// Predicted time to execute it alone, in seconds.
    pub seconds: f64,
    /// What it promises; nothing where nothing was measured. An engine may offer one for accuracy
    /// and one for fidelity.
    pub quality: Vec<Quality>,
}
