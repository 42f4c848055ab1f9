//! What a pool has room for, as whoever proposes operations asks it.

use super::Store;
use crate::alloc::room::{Demand, RoomLeft, Spare};
use crate::error::Result;
use crate::layout::pool::{dropped, root, snapshot};

/// Snapshots that there may be, and what their blocks and what they leave take each.
const SNAPSHOTS_AT_MOST: u64 = 256 + 64;
const SNAPSHOT_BYTES: u64 = 512;

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

    /// What an entry takes at most for the catalogue of snapshots, whatever it does: what has died
    /// is entered under the newest one, one may be dropped, or all be dropped by a rollback.
    pub fn demand_of_snapshots(&self) -> Demand {
        let lengths = self.catalogue_lengths();
        lengths.into_iter().map(Demand::of_block).fold(Demand::default(), Demand::and)
    }

    /// No less than [`demand_of_snapshots`](Self::demand_of_snapshots), without a look at them.
    #[inline]
    pub fn demand_at_a_glance(&self) -> Demand {
        if self.catalogue == 0 {
            return Demand::default();
        }
        let kept_bytes = self.heap.kept.len() as u64 * 9;
        Demand::of_any_size(SNAPSHOTS_AT_MOST * SNAPSHOT_BYTES + kept_bytes)
    }

    /// What dropping databases takes at most.
    pub fn demand_of_drop() -> Demand {
        let page = Demand::of_block(dropped::LEN);
        Demand::of_block(root::LEN).and(page).and(page).and(page)
    }

    /// `demand` with what it takes to enter under a snapshot what dies instead of being free: a
    /// word, and what a page has beside those, for each block of 32 bytes at the least.
    pub fn demand_with_kept(&self, demand: Demand) -> Demand {
        if self.heap.keep_upto == 0 || demand.bytes == 0 {
            return demand;
        }
        let mut pages = Demand::of_block(snapshot::PAGE_LEN);
        pages.bytes = demand.bytes / 32 * 9;
        demand.and(pages)
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
