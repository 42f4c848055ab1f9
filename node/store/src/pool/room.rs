//! What a pool has room for, as whoever proposes operations asks it.

use super::Store;
use crate::alloc::room::{Demand, RoomLeft, Spare};
use crate::error::Result;

impl Store {
    /// Whether operations that take `demand` at most find room in free slabs alone, and what is
    /// `spare` is left then. Parts of the pool that were not looked at yet count as full.
    #[inline]
    pub fn has_plenty(&self, demand: &Demand, spare: Spare) -> bool {
        self.heap.alloc.has_plenty(demand, spare)
    }

    /// What there is room for.
    pub fn room_left(&self) -> RoomLeft {
        self.heap.alloc.room_left()
    }

    /// Looks at more of the pool until `demand` finds room or all of it is known; says whether it
    /// does.
    ///
    /// # Errors
    /// [`crate::StoreError::Corrupt`] when the records of an extent are damaged.
    pub fn look_for_room(&mut self, demand: &Demand, spare: Spare) -> Result<bool> {
        self.heap.alloc.look_for_room(demand, spare)
    }

    /// Has commits free what has died as soon as they can, be there little room or much.
    pub fn want_room(&mut self, wanted: bool) {
        self.room_wanted = wanted;
    }

    /// Has evacuation leave alone what operations will take that are agreed on and not applied yet.
    pub fn promise(&mut self, demand: &Demand) {
        self.heap.alloc.promised_bytes = demand.bytes;
    }
}
