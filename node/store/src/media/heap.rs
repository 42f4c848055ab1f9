//! A buffer of the process: no durability, and the medium under which the tests of the
//! structures run.

use super::{Media, Medium, Pages};
use crate::error::{Result, StoreError};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::sync::atomic::{AtomicU64, Ordering};

/// A zeroed, page-aligned buffer with a fixed capacity.
pub struct HeapMedia {
    /// The first byte of a page, in what was allocated.
    base: *mut u8,
    capacity: u64,
    allocated: *mut u8,
    layout: Layout,
    len: AtomicU64,
}

const PAGE: usize = 4096;

// SAFETY: the buffer is owned, never moves, and is freed only on drop; access to its bytes is
// governed by `Mem`, not by this type.
unsafe impl Send for HeapMedia {}
// SAFETY: as for Send; the only field that changes is atomic.
unsafe impl Sync for HeapMedia {}

impl HeapMedia {
    /// A buffer that can grow to `capacity_bytes`.
    pub fn new(capacity_bytes: u64) -> HeapMedia {
        let capacity = capacity_bytes.max(PAGE as u64);
        // With a greater alignment the allocator would write the zeros: what is not touched would
        // cost as much as what is.
        let layout = Layout::from_size_align(capacity as usize + PAGE, 8);
        let layout = layout.expect("capacity of a test heap");
        // SAFETY: the layout has a non-zero size.
        let allocated = unsafe { alloc_zeroed(layout) };
        if allocated.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: less than a page further on, of which there is one more than the capacity needs.
        let base = unsafe { allocated.add(allocated.align_offset(PAGE)) };
        HeapMedia { base, capacity, allocated, layout, len: AtomicU64::new(0) }
    }

    /// A buffer that holds `bytes` and can grow to `capacity_bytes`.
    pub fn with_bytes(bytes: &[u8], capacity_bytes: u64) -> HeapMedia {
        HeapMedia::with_pages(&Pages::of(bytes), capacity_bytes)
    }

    /// A buffer that holds `pages` and can grow to `capacity_bytes`.
    pub fn with_pages(pages: &Pages, capacity_bytes: u64) -> HeapMedia {
        let len = pages.len_bytes();
        let media = HeapMedia::new(capacity_bytes.max(len));
        // The buffer is zeroed already; untouched pages of it cost nothing.
        for (offset, page) in pages.filled() {
            assert!(offset + page.len() as u64 <= len, "pages lie within their length");
            // SAFETY: the buffer has at least `len` bytes, so the page is inside it (asserted); it
            // is freshly allocated and not shared yet.
            unsafe {
                let at = media.base.add(offset as usize);
                std::ptr::copy_nonoverlapping(page.as_ptr(), at, page.len());
            }
        }
        media.len.store(len, Ordering::Release);
        media
    }
}

impl Drop for HeapMedia {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, freed once.
        unsafe { dealloc(self.allocated, self.layout) }
    }
}

// SAFETY: the buffer never moves, has `capacity` bytes from `base` on, which is aligned to a page, and
// `len` never passes that.
unsafe impl Media for HeapMedia {
    fn medium(&self) -> Medium {
        Medium::Heap
    }

    fn base(&self) -> *mut u8 {
        self.base
    }

    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    fn reserved(&self) -> u64 {
        self.capacity
    }

    fn grow(&self, file_bytes: u64, _backed: &[(u64, u64)]) -> Result<()> {
        if file_bytes > self.capacity {
            return Err(StoreError::Full);
        }
        self.len.fetch_max(file_bytes, Ordering::AcqRel);
        Ok(())
    }

    fn can_shrink(&self) -> bool {
        true
    }

    fn shrink(&self, file_bytes: u64) -> Result<()> {
        let len = self.len.fetch_min(file_bytes, Ordering::AcqRel);
        if file_bytes < len {
            // SAFETY: the range lies in the buffer, for `len` never passes its end; whoever shrinks
            // promises that nobody reads or writes there any more.
            unsafe {
                let at = self.base.add(file_bytes as usize);
                std::ptr::write_bytes(at, 0, (len - file_bytes) as usize);
            }
        }
        Ok(())
    }

    fn flush(&self, _offset: u64, _len: u64) {}

    fn fence(&self) -> Result<()> {
        Ok(())
    }
}
