//! Where messages are kept: a table in memory that stands for a database.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Rows by their number.
#[derive(Default)]
pub struct Pool {
    rows: Mutex<BTreeMap<u64, String>>,
}

impl Pool {
    /// Adds a row and gives its number.
    pub fn insert(&self, text: &str) -> u64 {
        let mut rows = self.rows.lock().unwrap();
        let number = rows.last_key_value().map_or(1, |(last, _)| last + 1);
        rows.insert(number, text.to_owned());
        number
    }

    /// A row.
    pub fn get(&self, number: u64) -> Option<String> {
        self.rows.lock().unwrap().get(&number).cloned()
    }

    /// Removes a row; whether it was there.
    pub fn remove(&self, number: u64) -> bool {
        self.rows.lock().unwrap().remove(&number).is_some()
    }
}

/// What tests need.
pub mod test_utils {
    use super::Pool;

    /// An empty pool.
    pub fn create_test_pool() -> Pool {
        Pool::default()
    }
}
