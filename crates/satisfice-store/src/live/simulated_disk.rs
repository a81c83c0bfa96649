//! A disk that loses what was not brought to it, tears it in sectors, fails and is full.

use super::disk::{Disk, DiskFile};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

const SECTOR: usize = 512;

/// What goes wrong at which of the steps, counted from 1: files made and removed, writes, truncations
/// and syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Faults {
    /// The power goes in the midst of it.
    pub(super) power_loss: Option<u64>,
    /// It fails, whatever it is.
    pub(super) failure: Option<u64>,
    /// It is a write for which there is no room but for half of it.
    pub(super) full: Option<u64>,
}

/// Shared by all who hold it.
#[derive(Debug, Clone, Default)]
pub(super) struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What is on the disk.
    durable: BTreeMap<String, Vec<u8>>,
    /// What a reader sees, the page cache among it.
    visible: BTreeMap<String, Vec<u8>>,
    /// What was done since the last sync.
    unsynced: BTreeMap<String, Vec<Change>>,
    faults: Faults,
    steps: u64,
    is_off: bool,
    random: u64,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl SimulatedDisk {
    /// The disk after its power went and came again, with other faults.
    pub(super) fn restarted(&self, faults: Faults, seed: u64) -> Self {
        let state = self.0.lock().unwrap();
        Self(Arc::new(Mutex::new(State {
            durable: state.durable.clone(),
            visible: state.durable.clone(),
            faults,
            random: seed,
            ..State::default()
        })))
    }

    pub(super) fn steps(&self) -> u64 {
        self.0.lock().unwrap().steps
    }

    /// The only file.
    pub(super) fn log(&self) -> Vec<u8> {
        self.0
            .lock()
            .unwrap()
            .durable
            .values()
            .next()
            .unwrap()
            .clone()
    }

    pub(super) fn set_log(&self, bytes: &[u8]) {
        let mut state = self.0.lock().unwrap();
        let name = state.durable.keys().next().unwrap().clone();
        state.durable.insert(name.clone(), bytes.to_vec());
        state.visible.insert(name, bytes.to_vec());
    }
}

impl State {
    /// Counts a step; returns whether the power goes in its midst.
    fn step(&mut self) -> io::Result<bool> {
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        self.steps += 1;
        if self.faults.failure == Some(self.steps) {
            return Err(io::Error::other("the disk failed"));
        }
        Ok(self.faults.power_loss == Some(self.steps))
    }

    fn chance(&mut self) -> bool {
        // The generator of Numerical Recipes.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random >> 63 == 1
    }

    /// Of what was not brought to the disk, any part gets there.
    fn lose_power(&mut self) -> io::Error {
        self.is_off = true;
        for (name, changes) in std::mem::take(&mut self.unsynced) {
            let mut bytes = self.durable.get(&name).cloned().unwrap_or_default();
            for change in changes {
                match change {
                    Change::Truncate(len) => {
                        if self.chance() {
                            bytes.resize(len, 0);
                        }
                    }
                    Change::Write(offset, written) => self.tear(&mut bytes, offset, &written),
                }
            }
            self.durable.insert(name, bytes);
        }
        io::Error::other("the power is off")
    }

    fn tear(&mut self, bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
        let mut at = 0;
        while at < written.len() {
            let end = written.len().min(at + SECTOR - (offset + at) % SECTOR);
            // The sector is written, or room is made for it but nothing put there, or nothing is done.
            match (self.chance(), self.chance()) {
                (true, _) => put(bytes, offset + at, &written[at..end]),
                (false, true) => {
                    let len = bytes.len().max(offset + end);
                    bytes.resize(len, 0);
                }
                (false, false) => {}
            }
            at = end;
        }
    }

    fn change(&mut self, name: &str, change: Change) {
        let bytes = self.visible.get_mut(name).unwrap();
        match &change {
            Change::Write(offset, written) => put(bytes, *offset, written),
            Change::Truncate(len) => bytes.resize(*len, 0),
        }
        self.unsynced
            .entry(name.to_owned())
            .or_default()
            .push(change);
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    let len = bytes.len().max(offset + written.len());
    bytes.resize(len, 0);
    bytes[offset..offset + written.len()].copy_from_slice(written);
}

impl Disk for SimulatedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().visible.keys().cloned().collect())
    }

    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let power_goes = state.step()?;
        if !power_goes || state.chance() {
            state.durable.insert(name.to_owned(), bytes.to_vec());
            state.visible.insert(name.to_owned(), bytes.to_vec());
        }
        if power_goes {
            Err(state.lose_power())
        } else {
            Ok(())
        }
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SimulatedFile {
            disk: self.clone(),
            name: name.to_owned(),
        }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let power_goes = state.step()?;
        if !power_goes || state.chance() {
            state.durable.remove(name);
            state.visible.remove(name);
        }
        if power_goes {
            Err(state.lose_power())
        } else {
            Ok(())
        }
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    name: String,
}

impl SimulatedFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        let power_goes = state.step()?;
        state.change(&self.name, change);
        if power_goes {
            Err(state.lose_power())
        } else {
            Ok(())
        }
    }
}

impl DiskFile for SimulatedFile {
    fn len(&mut self) -> io::Result<u64> {
        Ok(self.disk.0.lock().unwrap().visible[&self.name].len() as u64)
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let state = self.disk.0.lock().unwrap();
        let from = &state.visible[&self.name][offset as usize..];
        bytes.copy_from_slice(&from[..bytes.len()]);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let is_full = {
            let state = self.disk.0.lock().unwrap();
            state.faults.full == Some(state.steps + 1)
        };
        let written = if is_full {
            &bytes[..bytes.len() / 2]
        } else {
            bytes
        };
        self.change(Change::Write(offset as usize, written.to_vec()))?;
        if is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.change(Change::Truncate(len as usize))
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        if state.step()? {
            return Err(state.lose_power());
        }
        state.unsynced.remove(&self.name);
        let bytes = state.visible[&self.name].clone();
        state.durable.insert(self.name.clone(), bytes);
        Ok(())
    }
}
