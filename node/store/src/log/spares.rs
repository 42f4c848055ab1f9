//! Segment files that hold nothing any more, or nothing yet, ready to be opened as the next one.
//!
//! Making one takes milliseconds (16 MiB of zeros and two syncs), so a thread makes them ahead.
//! Its lock is its own: it may be taken under the log's, never the other way round.

use super::error::{LogError, Result};
use super::medium::{LogFile, LogMedium};
use super::record::Header;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::io;
use std::sync::Arc;

/// A segment file, with the number in its name.
#[derive(Clone)]
pub(crate) struct SegmentFile {
    pub number: u32,
    pub name: Arc<str>,
    pub file: Arc<dyn LogFile>,
}

/// The name of segment file `number`.
pub(crate) fn file_name(number: u32) -> String {
    format!("{number:06}.seg")
}

/// Name of a file while it is made.
pub(crate) const UNFINISHED: &str = "new.tmp";

/// Unused segment files beyond this many are removed: a burst must not hold its space for ever.
const KEEP: usize = 3;

struct Shelf {
    files: Vec<SegmentFile>,
    /// More than are kept: the maker removes them, since that takes a while too.
    surplus: Vec<SegmentFile>,
    next_number: u32,
    /// The maker is at it.
    making: bool,
    /// The maker is asked for one.
    wanted: bool,
    stop: bool,
}

pub(crate) struct Spares {
    medium: Arc<dyn LogMedium>,
    uuid: [u8; 16],
    segment_bytes: u64,
    /// Whether a maker's thread runs.
    ahead: bool,
    shelf: Mutex<Shelf>,
    changed: Condvar,
}

impl Spares {
    pub(crate) fn new(
        medium: Arc<dyn LogMedium>,
        uuid: [u8; 16],
        segment_bytes: u64,
        ahead: bool,
        files: Vec<SegmentFile>,
        next_number: u32,
    ) -> Self {
        let (surplus, making, wanted, stop) = (Vec::new(), false, false, false);
        let shelf = Shelf { files, surplus, next_number, making, wanted, stop };
        let (shelf, changed) = (Mutex::new(shelf), Condvar::new());
        Self { medium, uuid, segment_bytes, ahead, shelf, changed }
    }

    /// A file to open the next segment in: one that lies ready, else the one being made, else a
    /// new one made now.
    pub(crate) fn take(&self) -> Result<SegmentFile> {
        let mut shelf = self.shelf.lock();
        loop {
            if let Some(file) = shelf.files.pop() {
                shelf.wanted = self.ahead && shelf.files.is_empty();
                if shelf.wanted {
                    self.changed.notify_all();
                }
                return Ok(file);
            }
            if !shelf.making {
                break;
            }
            self.changed.wait(&mut shelf);
        }
        let number = shelf.number();
        drop(shelf);
        self.make(number)
    }

    /// Takes back a file whose segment is no longer needed.
    pub(crate) fn put(&self, file: SegmentFile) {
        let mut shelf = self.shelf.lock();
        if shelf.files.len() < KEEP {
            shelf.files.push(file);
            return;
        }
        if self.ahead {
            shelf.surplus.push(file);
            self.changed.notify_all();
            return;
        }
        drop(shelf);
        self.remove(&file.name);
    }

    /// Should the removal fail, or not last, the next open finds a spare.
    fn remove(&self, name: &str) {
        let _ = self.medium.remove(name);
    }

    /// Makes sure that one will lie ready.
    pub(crate) fn hint(&self) {
        let mut shelf = self.shelf.lock();
        if self.ahead && shelf.files.is_empty() {
            shelf.wanted = true;
            self.changed.notify_all();
        }
    }

    /// The maker's thread: makes what is wanted until it is told to stop.
    pub(crate) fn run(&self) {
        let mut shelf = self.shelf.lock();
        while !shelf.stop {
            if let Some(file) = shelf.surplus.pop() {
                MutexGuard::unlocked(&mut shelf, || self.remove(&file.name));
                continue;
            }
            if !std::mem::take(&mut shelf.wanted) {
                self.changed.wait(&mut shelf);
                continue;
            }
            shelf.making = true;
            let number = shelf.number();
            drop(shelf);
            let made = self.make(number);
            shelf = self.shelf.lock();
            shelf.making = false;
            // An error here is nobody's yet: who needs the file will try again, and report it.
            if let Ok(file) = made {
                shelf.files.insert(0, file);
            }
            self.changed.notify_all();
        }
    }

    /// Ends [`run`](Self::run).
    pub(crate) fn stop(&self) {
        self.shelf.lock().stop = true;
        self.changed.notify_all();
    }

    /// Makes a file: under another name until it is whole and durable, so that a crash leaves no
    /// segment file that is not.
    fn make(&self, number: u32) -> Result<SegmentFile> {
        let name = file_name(number);
        let unfinished = format!("{number:06}.{UNFINISHED}");
        match self.make_as(number, &unfinished, &name) {
            Ok(file) => {
                file.warm();
                Ok(SegmentFile { number, name: name.into(), file })
            }
            Err((doing, e)) => {
                // On a full disk, what is there of it had better go.
                self.remove(&unfinished);
                Err(LogError::io(doing, format!("{}/{name}", self.medium.place()), 0, &e))
            }
        }
    }

    /// As [`make`](Self::make); errors come with what was being done.
    fn make_as(
        &self,
        number: u32,
        unfinished: &str,
        name: &str,
    ) -> std::result::Result<Arc<dyn LogFile>, (&'static str, io::Error)> {
        let head = Header {
            uuid: self.uuid,
            segment_bytes: self.segment_bytes,
            file_number: number,
            ..Header::default()
        };
        let failed = |doing| move |e| (doing, e);
        let medium = &self.medium;
        let file = medium
            .create(unfinished, self.segment_bytes, &head.encode())
            .map_err(failed("making segment"))?;
        file.persist().map_err(failed("syncing new segment"))?;
        medium.rename(unfinished, name).map_err(failed("naming segment"))?;
        // Without this, a power loss could take the whole file, and what was acknowledged in it.
        medium.sync_dir().map_err(failed("syncing the directory of"))?;
        Ok(file)
    }
}

impl Shelf {
    fn number(&mut self) -> u32 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }
}
