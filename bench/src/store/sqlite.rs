//! SQLite: one table without a row id, write-ahead log, `synchronous=FULL`.

use std::path::Path;

use anyhow::Result;
use rusqlite::{Connection, params};

use super::Candidate;

struct Sqlite(Connection);

pub fn open(dir: &Path) -> Result<Box<dyn Candidate>> {
    let connection = Connection::open(dir.join("store.sqlite"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection
        .execute("CREATE TABLE IF NOT EXISTS registry (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID", [])?;
    Ok(Box::new(Sqlite(connection)))
}

impl Candidate for Sqlite {
    fn commit(&mut self, batch: &[(String, Vec<u8>)]) -> Result<()> {
        let transaction = self.0.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO registry VALUES (?1, ?2)")?;
            for (key, value) in batch {
                insert.execute(params![key, value])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn list(&self, prefix: &str, limit: usize) -> Result<usize> {
        let mut select = self.0.prepare("SELECT key, value FROM registry WHERE key >= ?1 ORDER BY key LIMIT ?2")?;
        let limit = i64::try_from(limit)?;
        let mut rows = select.query(params![prefix, limit])?;
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            bytes += row.get::<_, String>(0)?.len() + row.get::<_, Vec<u8>>(1)?.len();
        }
        Ok(bytes)
    }
}
