//! A sorted set of facts with how often each was seen; written as a list of objects.

use std::collections::{BTreeMap, btree_map};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Facts and their counts. In JSON: `[{"fact": …, "count": N}, …]`, sorted by fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts<T: Ord>(BTreeMap<T, u64>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counted<T> {
    fact: T,
    count: u64,
}

impl<T: Ord> Facts<T> {
    /// Adds `count` sightings of a fact.
    pub fn add(&mut self, fact: T, count: u64) {
        let seen = self.0.entry(fact).or_default();
        *seen = seen.saturating_add(count);
    }

    /// Facts and counts, sorted by fact.
    pub fn iter(&self) -> btree_map::Iter<'_, T, u64> {
        self.0.iter()
    }

    /// The facts without their counts, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &T> {
        self.0.keys()
    }

    /// Whether this fact was seen.
    pub fn contains(&self, fact: &T) -> bool {
        self.0.contains_key(fact)
    }

    /// Keeps the facts for which `keep` says so.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.0.retain(|fact, _| keep(fact));
    }

    /// No fact at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Union of the facts; of two counts the larger, so that merging a trace with itself changes nothing.
    pub fn merge(&mut self, other: Self) {
        for (fact, count) in other.0 {
            let seen = self.0.entry(fact).or_default();
            *seen = (*seen).max(count);
        }
    }
}

impl<T: Ord> Default for Facts<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> FromIterator<(T, u64)> for Facts<T> {
    fn from_iter<I: IntoIterator<Item = (T, u64)>>(facts: I) -> Self {
        let mut all = Self::default();
        for (fact, count) in facts {
            all.add(fact, count);
        }
        all
    }
}

impl<'a, T: Ord> IntoIterator for &'a Facts<T> {
    type Item = (&'a T, &'a u64);
    type IntoIter = btree_map::Iter<'a, T, u64>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Ord + Serialize> Serialize for Facts<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(fact, &count)| Counted { fact, count }))
    }
}

impl<'de, T: Ord + Deserialize<'de>> Deserialize<'de> for Facts<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Vec::<Counted<T>>::deserialize(deserializer)?;
        Ok(list.into_iter().map(|counted| (counted.fact, counted.count)).collect())
    }
}
