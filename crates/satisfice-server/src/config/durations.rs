//! Durations as whole numbers of a unit, for `#[serde(with = ...)]`.

macro_rules! unit {
    ($name:ident, $as:ident, $from:ident) => {
        pub(crate) mod $name {
            use serde::{Deserialize, Deserializer, Serializer};
            use std::time::Duration;

            pub(crate) fn serialize<S: Serializer>(
                duration: &Duration,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                let count = u64::try_from(duration.$as()).unwrap_or(u64::MAX);
                serializer.serialize_u64(count)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Duration, D::Error> {
                u64::deserialize(deserializer).map(Duration::$from)
            }
        }
    };
}

unit!(milliseconds, as_millis, from_millis);
unit!(microseconds, as_micros, from_micros);
