//! The smallest program that uses one candidate, for comparing sizes of binaries: build it with one `candidate-…`
//! feature at a time, and with none for the floor.

fn main() {
    let dir = std::env::args().nth(1).unwrap_or_default();
    #[cfg(feature = "candidate-redb")]
    {
        use redb::TableDefinition;
        const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("t");
        let database = redb::Database::create(format!("{dir}/store.redb")).expect("open");
        let transaction = database.begin_write().expect("begin");
        transaction.open_table(TABLE).expect("table").insert("k", b"v".as_slice()).expect("insert");
        transaction.commit().expect("commit");
    }
    #[cfg(feature = "candidate-fjall")]
    {
        let database = fjall::Database::builder(&dir).open().expect("open");
        let keyspace = database.keyspace("t", fjall::KeyspaceCreateOptions::default).expect("keyspace");
        keyspace.insert("k", "v").expect("insert");
        database.persist(fjall::PersistMode::SyncAll).expect("sync");
    }
    #[cfg(feature = "candidate-sqlite")]
    {
        let connection = rusqlite::Connection::open(format!("{dir}/store.sqlite")).expect("open");
        connection.execute("CREATE TABLE IF NOT EXISTS t (k TEXT PRIMARY KEY, v BLOB)", []).expect("create");
        connection.execute("INSERT OR REPLACE INTO t VALUES ('k', 'v')", []).expect("insert");
    }
    println!("{dir}");
}
