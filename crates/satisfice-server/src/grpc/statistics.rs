//! Statistics as protobuf has them.

use super::proto::{InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration};
use crate::protocol::statistics::{self, BatchStatistics, DurationStatistics, InferenceStatistics};

impl From<statistics::ModelStatistics> for ModelStatistics {
    fn from(stats: statistics::ModelStatistics) -> Self {
        Self {
            name: stats.name,
            version: stats.version,
            last_inference: stats.last_inference,
            inference_count: stats.inference_count,
            execution_count: stats.execution_count,
            inference_stats: Some(stats.inference_stats.into()),
            batch_stats: stats.batch_stats.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<DurationStatistics> for StatisticDuration {
    fn from(stats: DurationStatistics) -> Self {
        Self {
            count: stats.count,
            ns: stats.ns,
        }
    }
}

impl From<InferenceStatistics> for InferStatistics {
    fn from(stats: InferenceStatistics) -> Self {
        Self {
            success: Some(stats.success.into()),
            fail: Some(stats.fail.into()),
            queue: Some(stats.queue.into()),
            compute_input: Some(stats.compute_input.into()),
            compute_infer: Some(stats.compute_infer.into()),
            compute_output: Some(stats.compute_output.into()),
            cache_hit: Some(stats.cache_hit.into()),
            cache_miss: Some(stats.cache_miss.into()),
        }
    }
}

impl From<BatchStatistics> for InferBatchStatistics {
    fn from(stats: BatchStatistics) -> Self {
        Self {
            batch_size: stats.batch_size,
            compute_input: Some(stats.compute_input.into()),
            compute_infer: Some(stats.compute_infer.into()),
            compute_output: Some(stats.compute_output.into()),
        }
    }
}
