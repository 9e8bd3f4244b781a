//! Whether the servers still have what they had: one that took over may lack the last writes, and one that was started
//! again all of them, although every operation since was answered.

use std::sync::{Mutex, PoisonError};

/// Replication ids of the servers that keep the sessions, as they were at the last report of the node that reports through
/// this store. A server has another id once it has taken over from its primary, or was started again without its data.
#[derive(Default)]
pub(super) struct Lineage(Mutex<Vec<String>>);

impl Lineage {
    /// Whether the ids are those of the last time, or the first ones.
    pub(super) fn is_still(&self, ids: Vec<String>) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = last.is_empty() || *last == ids;
        *last = ids;
        same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_any_server_is_told_once() {
        let lineage = Lineage::default();
        let ids = |ids: [&str; 2]| ids.map(str::to_owned).to_vec();
        assert!(lineage.is_still(ids(["a", "b"])));
        assert!(lineage.is_still(ids(["a", "b"])));
        assert!(!lineage.is_still(ids(["a", "c"])));
        assert!(lineage.is_still(ids(["a", "c"])));
    }
}
