//! `/health` (the process lives) and `/ready` (it should get traffic).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Named conditions that must all hold before this service gets traffic. Clones share state.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>,
}

impl Readiness {
    /// No conditions: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that a condition holds.
    pub fn ok(&self, condition: &'static str) {
        self.lock().insert(condition, Ok(()));
    }

    /// Records that a condition does not hold, and why (shown by `/ready`).
    pub fn not_ok(&self, condition: &'static str, why: impl Into<String>) {
        self.lock().insert(condition, Err(why.into()));
    }

    /// `Ok`, or every reason why not.
    pub fn check(&self) -> Result<(), Vec<String>> {
        self.check_without(&[])
    }

    /// The same without some conditions, by name.
    pub fn check_without(&self, excluded: &[&str]) -> Result<(), Vec<String>> {
        let reasons: Vec<_> = self
            .lock()
            .iter()
            .filter(|(name, _)| !excluded.contains(name))
            .filter_map(|(name, state)| state.as_ref().err().map(|why| format!("{name}: {why}")))
            .collect();
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Result<(), String>>> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_condition_that_does_not_hold_is_enough() {
        let readiness = Readiness::new();
        assert_eq!(readiness.check(), Ok(()));
        readiness.ok("redis");
        readiness.clone().not_ok("drain", "draining");
        assert_eq!(readiness.check(), Err(vec!["drain: draining".to_owned()]));
    }

    #[test]
    fn a_condition_that_is_left_out_does_not_count() {
        let readiness = Readiness::new();
        readiness.not_ok("redis", "away");
        readiness.not_ok("drain", "draining");
        assert_eq!(
            readiness.check_without(&["redis"]),
            Err(vec!["drain: draining".to_owned()])
        );
        assert_eq!(readiness.check_without(&["redis", "drain"]), Ok(()));
    }

    #[test]
    fn a_condition_that_holds_again_is_forgotten() {
        let readiness = Readiness::new();
        readiness.not_ok("redis", "away");
        readiness.ok("redis");
        assert_eq!(readiness.check(), Ok(()));
    }
}
