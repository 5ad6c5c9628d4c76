//! heed: LMDB's B+ tree in a file in memory, a transaction for each call. Nothing is written out to a disk.

use crate::Outcome;
use crate::boards::Value;
use crate::maps::{Key, Maps, Store};
use crate::run::Task;
use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions};

pub(crate) struct Heed(Env);
pub(crate) struct Table(Env, Database<Bytes, Bytes>);

impl Maps for Heed {
    type Store = Table;
    fn make(task: &Task) -> Outcome<Self> {
        let folder = format!("/dev/shm/{}-heed", task.name);
        std::fs::create_dir_all(&folder)?;
        let mut options = EnvOpenOptions::new();
        options.map_size(64 << 20);
        // SAFETY: what a killed machine loses does not matter; the file is this run's own, opened once in a process.
        Ok(Self(unsafe { options.flags(EnvFlags::WRITE_MAP | EnvFlags::NO_SYNC).open(folder)? }))
    }
    fn open(task: &Task) -> Outcome<Self> {
        Self::make(task)
    }
    fn store(&self) -> Outcome<Table> {
        let mut transaction = self.0.write_txn()?;
        let table = self.0.create_database(&mut transaction, None)?;
        transaction.commit()?;
        Ok(Table(self.0.clone(), table))
    }
}

impl Store for Table {
    #[inline(always)]
    fn get(&mut self, key: &Key) -> Outcome<u64> {
        let transaction = self.0.read_txn()?;
        // Read where it lies.
        let bytes = self.1.get(&transaction, key)?.ok_or("a key is missing")?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(words.iter().fold(0, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word))))
    }
    #[inline(always)]
    fn put(&mut self, key: &Key, value: Value) -> Outcome<()> {
        let mut bytes = [0; 64];
        value.iter().zip(bytes.as_chunks_mut::<8>().0).for_each(|(word, into)| *into = word.to_ne_bytes());
        let mut transaction = self.0.write_txn()?;
        self.1.put(&mut transaction, key, &bytes)?;
        Ok(transaction.commit()?)
    }
}
