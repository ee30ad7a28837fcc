//! redb: one table, one durable write transaction per batch.

use std::path::Path;

use ::redb::{Database, ReadableDatabase, TableDefinition};
use anyhow::Result;

use super::Candidate;

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("registry");

struct Redb(Database);

pub fn open(dir: &Path) -> Result<Box<dyn Candidate>> {
    let database = Database::create(dir.join("store.redb"))?;
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?;
    transaction.commit()?;
    Ok(Box::new(Redb(database)))
}

impl Candidate for Redb {
    fn commit(&mut self, batch: &[(String, Vec<u8>)]) -> Result<()> {
        // The default durability of a commit is Immediate.
        let transaction = self.0.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in batch {
                table.insert(key.as_str(), value.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn list(&self, prefix: &str, limit: usize) -> Result<usize> {
        let transaction = self.0.begin_read()?;
        let table = transaction.open_table(TABLE)?;
        let mut bytes = 0;
        for item in table.range(prefix..)?.take(limit) {
            let (key, value) = item?;
            bytes += key.value().len() + value.value().to_vec().len();
        }
        Ok(bytes)
    }
}
