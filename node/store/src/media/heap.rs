//! A buffer of the process: no durability, and the medium under which the tests of the
//! structures run.

use super::{Media, Medium};
use crate::error::{Result, StoreError};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::sync::atomic::{AtomicU64, Ordering};

/// A zeroed, page-aligned buffer with a fixed capacity.
pub struct HeapMedia {
    base: *mut u8,
    layout: Layout,
    len: AtomicU64,
}

// SAFETY: the buffer is owned, never moves, and is freed only on drop; access to its bytes is
// governed by `Mem`, not by this type.
unsafe impl Send for HeapMedia {}
// SAFETY: as for Send; the only field that changes is atomic.
unsafe impl Sync for HeapMedia {}

impl HeapMedia {
    /// A buffer that can grow to `capacity_bytes`.
    pub fn new(capacity_bytes: u64) -> HeapMedia {
        let layout = Layout::from_size_align(capacity_bytes.max(4096) as usize, 4096)
            .expect("capacity of a test heap");
        // SAFETY: the layout has a non-zero size.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() {
            handle_alloc_error(layout);
        }
        HeapMedia { base, layout, len: AtomicU64::new(0) }
    }

    /// A buffer that holds `bytes` and can grow to `capacity_bytes`.
    pub fn with_bytes(bytes: &[u8], capacity_bytes: u64) -> HeapMedia {
        let media = HeapMedia::new(capacity_bytes.max(bytes.len() as u64));
        for (index, page) in bytes.chunks(4096).enumerate() {
            // The buffer is zeroed already; untouched pages of it cost nothing.
            if page.iter().any(|&byte| byte != 0) {
                // SAFETY: the buffer is at least as long as `bytes`, so the page is inside it; it
                // is freshly allocated and not shared yet.
                unsafe {
                    let at = media.base.add(index * 4096);
                    std::ptr::copy_nonoverlapping(page.as_ptr(), at, page.len());
                }
            }
        }
        media.len.store(bytes.len() as u64, Ordering::Release);
        media
    }
}

impl Drop for HeapMedia {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, freed once.
        unsafe { dealloc(self.base, self.layout) }
    }
}

// SAFETY: the buffer never moves, is as long as its capacity, and `len` never passes that.
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
        self.layout.size() as u64
    }

    fn grow(&self, file_bytes: u64, _backed: &[(u64, u64)]) -> Result<()> {
        if file_bytes > self.layout.size() as u64 {
            return Err(StoreError::Full);
        }
        self.len.fetch_max(file_bytes, Ordering::AcqRel);
        Ok(())
    }

    fn flush(&self, _offset: u64, _len: u64) {}

    fn fence(&self) -> Result<()> {
        Ok(())
    }
}
