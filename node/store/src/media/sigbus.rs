//! What becomes of the process when mapped bytes cannot be had: the file was cut short under the
//! mapping, the disk failed to read a page, or the file system has no page left.
//!
//! The kernel says so with SIGBUS, at whatever load or store met it. There is nothing sound to go on
//! with: a page of zeros in its place could be taken for data where nothing is checked any more. So
//! the process ends at once, as if killed with -9, which every medium survives; but it says which
//! file, where, and what to do, and exits with [`EXIT_CODE`].
//!
//! A signal handler may not allocate, lock or wait, so what it needs lies in a fixed table of
//! atomics. Faults outside of the table's ranges go to whoever handled SIGBUS before.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// How the process exits: `EX_IOERR` of sysexits.h.
pub const EXIT_CODE: i32 = 74;

/// Mappings that are told apart; a node has a pool for each shard and some log segments.
const SLOTS: usize = 128;

/// A watched mapping of a file from its first byte on. A slot is filled before its `len` is set and
/// emptied after that is zero again, so what a fault finds is whole.
struct Slot {
    taken: AtomicU8,
    base: AtomicUsize,
    len: AtomicUsize,
    fd: AtomicI32,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        taken: AtomicU8::new(0),
        base: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        fd: AtomicI32::new(-1),
    }
}; SLOTS];

/// Who handled the signal before; set once, before the handler is.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();
/// Set by the first thread that reports, so that one message comes out whole.
static REPORTING: AtomicU64 = AtomicU64::new(0);

/// A mapping that is watched until this is dropped.
#[derive(Debug)]
pub(super) struct Watched(Option<usize>);

/// Watches the mapping of `len` bytes at `base` of the file open as `fd`, from its first byte on. When
/// the table is full, a fault in it is nobody's.
pub(super) fn watch(base: *const u8, len: usize, fd: RawFd) -> Watched {
    install();
    for (number, slot) in TABLE.iter().enumerate() {
        if slot.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            continue;
        }
        slot.fd.store(fd, Ordering::Relaxed);
        slot.base.store(base as usize, Ordering::Relaxed);
        slot.len.store(len, Ordering::Release);
        return Watched(Some(number));
    }
    Watched(None)
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(number) = self.0 {
            TABLE[number].len.store(0, Ordering::Release);
            TABLE[number].taken.store(0, Ordering::Release);
        }
    }
}

/// Installs the handler, once a process.
fn install() {
    BEFORE.get_or_init(|| {
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: only reads the present action into `before`, which is writable and of that type.
        let read = unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), before.as_mut_ptr()) };
        assert_eq!(read, 0, "SIGBUS is a signal");
        // SAFETY: zeroed to begin with, for which all-zero bytes are a value, and filled in by the
        // call that succeeded.
        let before = unsafe { before.assume_init() };
        let mut ours = before;
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
            on_sigbus;
        ours.sa_sigaction = handler as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for and calls only what is safe
        // in a handler; the mask was read from the system.
        let set = unsafe { libc::sigaction(libc::SIGBUS, &ours, std::ptr::null_mut()) };
        assert_eq!(set, 0, "SIGBUS can be handled");
        before
    });
}

extern "C" fn on_sigbus(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo, whose address field is set for
    // SIGBUS.
    let address = unsafe { (*info).si_addr() } as usize;
    let found = TABLE.iter().find(|slot| {
        let len = slot.len.load(Ordering::Acquire);
        let base = slot.base.load(Ordering::Relaxed);
        address >= base && address - base < len
    });
    match found {
        Some(slot) => report(slot, (address - slot.base.load(Ordering::Relaxed)) as u64),
        None => hand_back(),
    }
}

/// A fault that is none of ours: whoever was there before gets the signal when the instruction is
/// tried again.
fn hand_back() {
    if let Some(before) = BEFORE.get() {
        // SAFETY: puts back an action that the system gave us; sigaction is safe in a handler.
        unsafe { libc::sigaction(libc::SIGBUS, before, std::ptr::null_mut()) };
    }
}

/// Says what happened, and ends the process.
fn report(slot: &Slot, offset: u64) -> ! {
    if REPORTING.swap(1, Ordering::AcqRel) != 0 {
        // Another thread is saying it and ends us all; should it not, this one does.
        // SAFETY: sleep and _exit are safe in a handler.
        unsafe {
            libc::sleep(1);
            libc::_exit(EXIT_CODE);
        }
    }
    let mut text = Text { bytes: [0; 1024], len: 0 };
    text.put(b"cairn: stopped: ");
    text.name(slot);
    text.put(b" cannot be reached at byte ");
    text.number(offset);
    text.reason(slot.fd.load(Ordering::Relaxed), offset);
    // SAFETY: write and _exit are safe in a handler; the buffer is ours and as long as said. That
    // standard error may be closed is no reason not to stop.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.bytes.as_ptr().cast(), text.len);
        libc::_exit(EXIT_CODE)
    }
}

/// A message under way, in memory of the stack.
struct Text {
    bytes: [u8; 1024],
    len: usize,
}

impl Text {
    /// Appends as much as there is room for.
    fn put(&mut self, bytes: &[u8]) {
        let room = &mut self.bytes[self.len..];
        let fits = bytes.len().min(room.len());
        room[..fits].copy_from_slice(&bytes[..fits]);
        self.len += fits;
    }

    fn number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.put(&digits[at..]);
    }

    /// The file's name as the system knows it now: a log's segment is renamed when it is ready.
    fn name(&mut self, slot: &Slot) {
        let mut link = Text { bytes: [0; 1024], len: 0 };
        link.put(b"/proc/self/fd/");
        link.number(slot.fd.load(Ordering::Relaxed).max(0) as u64);
        let room = &mut self.bytes[self.len..];
        // SAFETY: readlink is safe in a handler; the link's name ends with a zero, for its buffer is
        // zeroed and much longer; no more is written than there is room for.
        let len = unsafe {
            libc::readlink(link.bytes.as_ptr().cast(), room.as_mut_ptr().cast(), room.len())
        };
        match len > 0 {
            true => self.len += len as usize,
            false => self.put(b"a mapped file"),
        }
    }

    fn reason(&mut self, fd: RawFd, offset: u64) {
        match (file_len(fd), free_blocks(fd)) {
            (Some(len), _) if len <= offset => {
                self.put(b": the file was cut to ");
                self.number(len);
                self.put(
                    b" bytes while the node had it open; restore the directory from a backup or a \
                      peer\n",
                );
            }
            (_, Some(0)) => self.put(
                b": its file system is full; free space there and start the node again: what was \
                  acknowledged is kept\n",
            ),
            _ => self.put(
                b": the medium failed; look at the kernel's log and the disk, then start the node \
                  again on a working one: `cairn check --deep` says what is whole\n",
            ),
        }
    }
}

fn file_len(fd: RawFd) -> Option<u64> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: fstat is safe in a handler and writes only `stat`, for which zeros are a value; on a
    // descriptor closed meanwhile it fails.
    let stat = unsafe { (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) };
    stat.map(|stat| stat.st_size as u64)
}

fn free_blocks(fd: RawFd) -> Option<u64> {
    let mut stat = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: as for `file_len`; on Linux fstatfs is a plain system call.
    let stat = unsafe { (libc::fstatfs(fd, stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) };
    stat.map(|stat| stat.f_bavail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_given_back() {
        for _ in 0..3 {
            // Far from any mapping, so that no fault of another test is taken for theirs.
            let held: Vec<Watched> = (0..SLOTS / 2)
                .map(|number| watch(std::ptr::without_provenance(4096 + number), 1, -1))
                .collect();
            assert!(held.iter().all(|watched| watched.0.is_some()));
        }
    }

    #[test]
    fn a_message_is_put_together_without_allocating() {
        let mut text = Text { bytes: [0; 1024], len: 0 };
        text.put(b"at ");
        text.number(0);
        text.put(b", ");
        text.number(u64::MAX);
        assert_eq!(&text.bytes[..text.len], b"at 0, 18446744073709551615");
        text.put(&[b'x'; 2000]);
        assert_eq!(text.len, 1024, "what does not fit is left out");
    }
}
