/// The version that a directory of a model holds by its name: a number over 0, as it is printed, so
/// that `01` is not version 1.
///
/// ```
/// use satisfice_core::version_of_name;
///
/// assert_eq!(version_of_name("12"), Some(12));
/// assert!(["0", "01", "+1", "graph"].map(version_of_name).iter().all(Option::is_none));
/// ```
pub fn version_of_name(name: &str) -> Option<u64> {
    let version = name.parse().ok()?;
    (version > 0 && u64::to_string(&version) == name).then_some(version)
}
