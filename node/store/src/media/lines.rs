//! Writing cache lines back: which instruction this processor has for it, and which lines a range
//! touches.
//!
//! On memory that keeps its contents a store is durable once its line has left the caches: `clwb`
//! writes a line back and keeps it cached, `clflushopt` evicts it, `clflush` evicts it and waits
//! for the one before. The first two are ordered by `sfence` alone, and only among what the *same
//! thread* did: whoever writes lines back fences them.
//!
//! Stores are ordinary ones. Non-temporal stores would spare the write-back of what is copied once
//! and not read again, but there is no such data: a block's checksum is computed over the block
//! after it was copied, the log's records are checked by their readers, and a line that was stored
//! around the cache would be fetched back from a memory several times slower than DRAM.

/// Bytes of a cache line.
pub(crate) const LINE: u64 = 64;

/// The instruction that writes a cache line back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteBack {
    /// Writes back, keeps the line.
    Clwb,
    /// Writes back and evicts.
    ClflushOpt,
    /// Writes back and evicts, one after the other.
    Clflush,
}

impl WriteBack {
    /// The best one that this processor has; `None` where there is none that is known, which is
    /// where `MAP_SYNC` is of no use.
    pub(crate) fn of_this_cpu() -> Option<WriteBack> {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{__cpuid, __cpuid_count};
            let leaf7_ebx = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
            let leaf1 = __cpuid(1);
            WriteBack::choose(leaf1.ebx, leaf1.edx, leaf7_ebx)
        }
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// Chooses by what CPUID says: leaf 1 has the line's length in EBX 15..8, in words of eight
    /// bytes, and `clflush` in EDX 19; leaf 7 has `clflushopt` in EBX 23 and `clwb` in EBX 24.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    fn choose(leaf1_ebx: u32, leaf1_edx: u32, leaf7_ebx: u32) -> Option<WriteBack> {
        let has = |bits: u32, bit: u32| bits >> bit & 1 == 1;
        if !has(leaf1_edx, 19) || u64::from(leaf1_ebx >> 8 & 0xff) * 8 != LINE {
            return None;
        }
        Some(match (has(leaf7_ebx, 24), has(leaf7_ebx, 23)) {
            (true, _) => WriteBack::Clwb,
            (false, true) => WriteBack::ClflushOpt,
            (false, false) => WriteBack::Clflush,
        })
    }

    /// Its name, for INFO.
    pub(crate) fn name(self) -> &'static str {
        match self {
            WriteBack::Clwb => "clwb",
            WriteBack::ClflushOpt => "clflushopt",
            WriteBack::Clflush => "clflush",
        }
    }

    /// Writes back the lines of `len` bytes at `at`. Durable after [`fence`] on this thread.
    ///
    /// # Safety
    /// The bytes must be mapped. Their contents are neither read nor changed, so it does not
    /// matter who else reads or stores there.
    pub(crate) unsafe fn write_back(self, at: *const u8, len: usize) {
        asked(Asked::Flush);
        let start = at.addr() as u64;
        for line in lines(start, len as u64) {
            asked(Asked::Line);
            let line = at.with_addr(line as usize);
            // SAFETY: the line holds at least one byte of the caller's mapped range, so it lies in
            // a mapped page; the instruction changes no byte.
            unsafe { self.write_back_line(line) };
        }
    }

    /// # Safety
    /// `line` must lie in a mapped page.
    #[cfg(target_arch = "x86_64")]
    unsafe fn write_back_line(self, line: *const u8) {
        use std::arch::asm;
        // SAFETY: the address is mapped (by contract) and the processor has the instruction (by
        // `choose`). Without `nomem` the compiler keeps stores before it before it.
        unsafe {
            match self {
                WriteBack::Clwb => {
                    asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags))
                }
                WriteBack::ClflushOpt => {
                    asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags));
                }
                WriteBack::Clflush => {
                    asm!("clflush [{}]", in(reg) line, options(nostack, preserves_flags));
                }
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    unsafe fn write_back_line(self, _line: *const u8) {
        unreachable!("`of_this_cpu` yields none here");
    }
}

/// Returns once what this thread has written back is durable.
pub(crate) fn fence() {
    asked(Asked::Fence);
    // SAFETY: an instruction without operands, which every x86-64 has; without `nomem` the compiler
    // moves no store across it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("sfence", options(nostack, preserves_flags));
    }
}

/// Addresses of the lines that `len` bytes at `at` touch.
pub(crate) fn lines(at: u64, len: u64) -> impl Iterator<Item = u64> {
    let first = at / LINE * LINE;
    let end = if len == 0 { first } else { at + len };
    (first..end).step_by(LINE as usize)
}

/// What a medium is asked for.
pub(crate) enum Asked {
    /// To write a range back.
    Flush,
    /// To write back a line of it.
    Line,
    /// An `sfence`.
    Fence,
    /// A sync, or a write that is one.
    Sync,
}

/// Counts it, in the builds that pin how often that is.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn asked(_what: Asked) {}
#[cfg(test)]
pub(crate) use counted::asked;

/// What this thread has asked its media for.
#[cfg(test)]
pub(crate) mod counted {
    use super::Asked;
    use std::cell::Cell;

    /// How often.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub(crate) struct Counts {
        pub(crate) flushes: u64,
        pub(crate) lines: u64,
        pub(crate) fences: u64,
        pub(crate) syncs: u64,
    }

    thread_local! {
        static COUNTS: Cell<Counts> = const {
            Cell::new(Counts { flushes: 0, lines: 0, fences: 0, syncs: 0 })
        };
    }

    pub(crate) fn asked(what: Asked) {
        let mut counts = COUNTS.get();
        match what {
            Asked::Flush => counts.flushes += 1,
            Asked::Line => counts.lines += 1,
            Asked::Fence => counts.fences += 1,
            Asked::Sync => counts.syncs += 1,
        }
        COUNTS.set(counts);
    }

    /// What `work` asks for.
    pub(crate) fn of(work: impl FnOnce()) -> Counts {
        COUNTS.set(Counts::default());
        work();
        COUNTS.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_instruction_is_chosen_by_cpuid() {
        const LINE_64: u32 = 8 << 8;
        const CLFLUSH: u32 = 1 << 19;
        const OPT: u32 = 1 << 23;
        const CLWB: u32 = 1 << 24;
        let table = [
            (LINE_64, CLFLUSH, OPT | CLWB, Some(WriteBack::Clwb)),
            (LINE_64, CLFLUSH, CLWB, Some(WriteBack::Clwb)),
            (LINE_64, CLFLUSH, OPT, Some(WriteBack::ClflushOpt)),
            (LINE_64, CLFLUSH, 0, Some(WriteBack::Clflush)),
            (LINE_64, CLFLUSH, !(OPT | CLWB), Some(WriteBack::Clflush)),
            (LINE_64, !CLFLUSH, OPT | CLWB, None),
            (16 << 8, CLFLUSH, OPT | CLWB, None),
            (0, 0, 0, None),
        ];
        for (ebx, edx, leaf7, wanted) in table {
            assert_eq!(WriteBack::choose(ebx, edx, leaf7), wanted, "{ebx:#x} {edx:#x} {leaf7:#x}");
        }
    }

    #[test]
    fn a_range_has_every_line_it_touches_and_no_other() {
        let table: [(u64, u64, &[u64]); 8] = [
            (0, 0, &[]),
            (100, 0, &[]),
            (0, 1, &[0]),
            (63, 1, &[0]),
            (63, 2, &[0, 64]),
            (64, 64, &[64]),
            (65, 64, &[64, 128]),
            (4090, 140, &[4032, 4096, 4160, 4224]),
        ];
        for (at, len, wanted) in table {
            assert_eq!(lines(at, len).collect::<Vec<_>>(), wanted, "{len} bytes at {at}");
        }
    }

    /// Every instruction that this processor has leaves the bytes as they are.
    #[test]
    #[cfg_attr(miri, ignore = "inline assembly")]
    fn writing_back_changes_nothing() {
        let Some(best) = WriteBack::of_this_cpu() else { return };
        let all = [WriteBack::Clwb, WriteBack::ClflushOpt, WriteBack::Clflush];
        let from = all.iter().position(|&w| w == best).expect("one of them");
        let bytes: Vec<u8> = (0..1000).map(|i| i as u8).collect();
        for how in &all[from..] {
            // SAFETY: the range lies in `bytes`.
            unsafe { how.write_back(bytes.as_ptr().wrapping_add(3), 990) };
            fence();
            assert!(bytes.iter().enumerate().all(|(i, &b)| b == i as u8), "{}", how.name());
        }
    }
}
