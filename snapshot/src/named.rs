//! Settings that are one of a few words, such as `enforce` and `shadow`.

/// A value with a name, which flags, files and output spell the same way.
pub trait Named: Copy + Eq + Sized + 'static {
    /// All values, each with its name.
    const ALL: &'static [(&'static str, Self)];

    /// The name of this value.
    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }

    /// The value with this name.
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}
