//! The search for a minimal set: pure, given a judge.

use anyhow::Result;

/// A minimal subset of `units` that still `works`: from it no single unit can be removed.
///
/// What stands first is removed first, so it stays only when what follows cannot replace it. The result is that
/// of removing one unit after the other, but whole stretches go in one step where they can. All of `units` are
/// taken to work.
///
/// # Errors
/// Whatever the judge returns.
pub fn minimal<T: Clone>(units: &[T], mut works: impl FnMut(&[T]) -> Result<bool>) -> Result<Vec<T>> {
    let mut kept = Vec::new();
    reduce(&mut kept, units, &[], &mut works)?;
    // Until nothing changes: what seemed needed is asked for again, alone, which also catches a run that
    // failed by accident.
    'again: loop {
        for index in 0..kept.len() {
            let mut fewer = kept.clone();
            fewer.remove(index);
            if works(&fewer)? {
                kept = fewer;
                continue 'again;
            }
        }
        return Ok(kept);
    }
}

/// Moves to `kept` what is needed of `chunk`, while all of `rest` is there.
fn reduce<T: Clone>(
    kept: &mut Vec<T>,
    chunk: &[T],
    rest: &[T],
    works: &mut impl FnMut(&[T]) -> Result<bool>,
) -> Result<()> {
    if chunk.is_empty() || works(&[kept.as_slice(), rest].concat())? {
        return Ok(());
    }
    if let [only] = chunk {
        kept.push(only.clone());
        return Ok(());
    }
    let (first, second) = chunk.split_at(chunk.len() / 2);
    reduce(kept, first, &[second, rest].concat(), works)?;
    reduce(kept, second, rest, works)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(units: &[u32], works: impl Fn(&[u32]) -> bool) -> Vec<u32> {
        minimal(units, |set| Ok(works(set))).unwrap()
    }

    #[test]
    fn keeps_exactly_what_is_needed() {
        let units: Vec<_> = (0..40).collect();
        assert_eq!(search(&units, |_| true), Vec::<u32>::new());
        assert_eq!(search(&units, |set| [3, 17, 39].iter().all(|n| set.contains(n))), [3, 17, 39]);
        assert_eq!(search(&units, |set| set.len() == 40), units);
    }

    #[test]
    fn of_alternatives_the_last_stays() {
        let units: Vec<_> = (0..40).collect();
        assert_eq!(search(&units, |set| set.contains(&2) || set.contains(&30)), [30]);
        assert_eq!(search(&[5, 1], |set| set.contains(&5) || set.contains(&1)), [1]);
    }

    #[test]
    fn a_failure_by_accident_leaves_no_unit_behind() {
        let units: Vec<_> = (0..8).collect();
        let mut runs = 0;
        let kept = minimal(&units, |set| {
            runs += 1;
            Ok(runs > 3 && set.contains(&6))
        });
        assert_eq!(kept.unwrap(), [6]);
    }
}
