use std::fmt;

/// Most modalities that a model may have.
pub(crate) const MODALITIES_MAX: usize = 6;

/// Some of a model's modalities, by position; never more than [`MODALITIES_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Subset(u8);

impl Subset {
    /// The first `count` modalities.
    pub(crate) fn all(count: usize) -> Self {
        (0..count).collect()
    }

    /// Every subset of `count` modalities but the empty one.
    pub(crate) fn every(count: usize) -> impl Iterator<Item = Self> {
        (1..=Self::all(count).0).map(Self)
    }

    pub(crate) fn contains(self, modality: usize) -> bool {
        self.0 >> modality & 1 == 1
    }

    pub(crate) fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Positions of the modalities, ascending.
    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        (0..MODALITIES_MAX).filter(move |&modality| self.contains(modality))
    }

    /// `"image+text"`.
    pub(crate) fn name(self, modalities: &[impl AsRef<str>]) -> String {
        let names: Vec<&str> = self.iter().map(|m| modalities[m].as_ref()).collect();
        names.join("+")
    }
}

impl FromIterator<usize> for Subset {
    fn from_iter<I: IntoIterator<Item = usize>>(modalities: I) -> Self {
        Self(modalities.into_iter().fold(0, |bits, m| bits | 1 << m))
    }
}

impl fmt::Debug for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subset_once() {
        let all: Vec<Subset> = Subset::every(3).collect();
        assert_eq!(all.len(), 7);
        let names = ["image", "audio", "text"];
        assert_eq!(Subset::all(3).name(&names), "image+audio+text");
        assert_eq!(Subset::from_iter([2, 0]).name(&names), "image+text");
        assert!(Subset::all(3).includes(Subset::from_iter([1])));
        assert!(!Subset::from_iter([1]).includes(Subset::all(3)));
        assert_eq!(Subset::every(MODALITIES_MAX).count(), 63);
    }
}
