//! What models have done, as the `statistics` extension has it.

use crate::service::{Duty, ServedModel};
use serde::Serialize;

/// Statistics of models.
#[derive(Debug, Serialize)]
pub(crate) struct Statistics {
    pub model_stats: Vec<ModelStatistics>,
}

/// Statistics of one version of a model.
#[derive(Debug, Serialize)]
pub(crate) struct ModelStatistics {
    pub name: String,
    pub version: String,
    /// Milliseconds since 1970; 0 for never.
    pub last_inference: u64,
    pub inference_count: u64,
    pub execution_count: u64,
    pub inference_stats: InferenceStatistics,
    pub batch_stats: Vec<BatchStatistics>,
}

/// How often, and how long in all.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct DurationStatistics {
    pub count: u64,
    pub ns: u64,
}

impl From<&Duty> for DurationStatistics {
    fn from(duty: &Duty) -> Self {
        Self {
            count: duty.count(),
            ns: duty.ns(),
        }
    }
}

/// Where the time went; nothing is cached.
#[derive(Debug, Serialize)]
pub(crate) struct InferenceStatistics {
    pub success: DurationStatistics,
    pub fail: DurationStatistics,
    pub queue: DurationStatistics,
    pub compute_input: DurationStatistics,
    pub compute_infer: DurationStatistics,
    pub compute_output: DurationStatistics,
    pub cache_hit: DurationStatistics,
    pub cache_miss: DurationStatistics,
}

/// Where the time went of executions of one size.
#[derive(Debug, Serialize)]
pub(crate) struct BatchStatistics {
    pub batch_size: u64,
    pub compute_input: DurationStatistics,
    pub compute_infer: DurationStatistics,
    pub compute_output: DurationStatistics,
}

impl ModelStatistics {
    /// The counters now. Decoding and encoding are not of batches.
    pub(crate) fn new(model: &ServedModel) -> Self {
        let stats = model.stats();
        let inference_stats = InferenceStatistics {
            success: (&stats.success).into(),
            fail: (&stats.fail).into(),
            queue: (&stats.queue).into(),
            compute_input: (&stats.compute_input).into(),
            compute_infer: (&stats.compute_infer).into(),
            compute_output: (&stats.compute_output).into(),
            cache_hit: DurationStatistics::default(),
            cache_miss: DurationStatistics::default(),
        };
        let batches = stats.executions().into_iter();
        let batch = |(inputs, (count, ns))| BatchStatistics {
            batch_size: inputs as u64,
            compute_input: DurationStatistics::default(),
            compute_infer: DurationStatistics { count, ns },
            compute_output: DurationStatistics::default(),
        };
        Self {
            name: model.name().to_owned(),
            version: model.version().to_owned(),
            last_inference: stats.last_inference_ms(),
            inference_count: stats.inferences(),
            execution_count: stats.compute_infer.count(),
            inference_stats,
            batch_stats: batches.map(batch).collect(),
        }
    }
}
