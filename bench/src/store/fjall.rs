//! fjall: one keyspace, one batch with `SyncAll` per batch.

use std::path::Path;

use ::fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use anyhow::Result;

use super::Candidate;

struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

pub fn open(dir: &Path) -> Result<Box<dyn Candidate>> {
    let database = Database::builder(dir).open()?;
    let keyspace = database.keyspace("registry", KeyspaceCreateOptions::default)?;
    Ok(Box::new(Fjall { database, keyspace }))
}

impl Candidate for Fjall {
    fn commit(&mut self, batch: &[(String, Vec<u8>)]) -> Result<()> {
        let mut writes = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (key, value) in batch {
            writes.insert(&self.keyspace, key.as_str(), value.as_slice());
        }
        Ok(writes.commit()?)
    }

    fn list(&self, prefix: &str, limit: usize) -> Result<usize> {
        let mut bytes = 0;
        for item in self.keyspace.range(prefix..).take(limit) {
            let (key, value) = item.into_inner()?;
            bytes += key.len() + value.to_vec().len();
        }
        Ok(bytes)
    }
}
