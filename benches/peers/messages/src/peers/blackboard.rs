//! iceoryx2's blackboard, of one key.

use super::iceoryx::{Service, named, node};
use crate::Outcome;
use crate::boards::{Latest, Value, Values};
use crate::run::Task;
use iceoryx2::node::Node;
use iceoryx2::port::reader::{EntryHandle, Reader};
use iceoryx2::port::writer::{EntryHandleMut, Writer};
use iceoryx2::service::port_factory::blackboard::PortFactory;

const KEY: u64 = 0;

pub(crate) struct Blackboard {
    _node: Node<Service>,
    service: PortFactory<Service, u64>,
}

impl Values for Blackboard {
    type Latest = Handle;
    fn make(task: &Task) -> Outcome<Self> {
        let node = node(task)?;
        let creator = node.service_builder(&named("latest")?).blackboard_creator::<u64>();
        let made = creator.add::<Value>(KEY, [1; 8]).max_readers(8).create();
        Ok(Self { service: made.map_err(|error| format!("no service: {error:?}"))?, _node: node })
    }
    fn open(task: &Task) -> Outcome<Self> {
        let node = node(task)?;
        let opened = node.service_builder(&named("latest")?).blackboard_opener::<u64>().open();
        Ok(Self { service: opened.map_err(|error| format!("no service: {error:?}"))?, _node: node })
    }
    fn end(&self, writes: bool) -> Outcome<Handle> {
        if writes {
            let writer = self.service.writer_builder().create().map_err(|error| format!("no writer: {error:?}"))?;
            let entry = writer.entry::<Value>(&KEY).map_err(|error| format!("no entry: {error:?}"))?;
            return Ok(Handle::Writes(entry, writer));
        }
        let reader = self.service.reader_builder().create().map_err(|error| format!("no reader: {error:?}"))?;
        let entry = reader.entry::<Value>(&KEY).map_err(|error| format!("no entry: {error:?}"))?;
        Ok(Handle::Reads(entry, reader))
    }
}

/// A handle of the entry, beside its port, which lives as long.
#[expect(clippy::large_enum_variant, reason = "a worker has one")]
pub(crate) enum Handle {
    Reads(EntryHandle<Service, u64, Value>, #[expect(dead_code, reason = "it lives as long")] Reader<Service, u64>),
    Writes(EntryHandleMut<Service, u64, Value>, #[expect(dead_code, reason = "it lives as long")] Writer<Service, u64>),
}

impl Latest for Handle {
    #[inline(always)]
    fn get(&mut self) -> Outcome<Value> {
        match self {
            Self::Reads(entry, _) => Ok(*entry.get()),
            Self::Writes(..) => Err("a writer reads".into()),
        }
    }
    #[inline(always)]
    fn set(&mut self, value: Value) -> Outcome<()> {
        match self {
            Self::Writes(entry, _) => {
                entry.update_with_copy(value);
                Ok(())
            }
            Self::Reads(..) => Err("a reader writes".into()),
        }
    }
}
