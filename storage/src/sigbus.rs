//! Survives SIGBUS in mapped files: a disk error under a map, or a file cut by somebody else.
//!
//! A fixed table names the live regions. The handler finds the region that holds the faulting address, maps zeros over the
//! page, sets the mark of the region's data directory and returns: the access goes on and sees zeros. Whoever
//! read or wrote checks the mark before answering. An address of no region goes to the handler that was there before.
//!
//! The table is read in the handler without a lock: each slot carries a version, odd while it changes. It is changed under a
//! mutex, which the handler never takes.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence},
    },
};

/// Most regions protected at once; more than `vm.max_map_count` allows by default.
const SLOTS: usize = 65_536;

/// Protects `range` (addresses of one map) until the registration drops: on a fault inside, `mark` is set. `None` when
/// the table is full or the handler cannot be installed: the region then goes unprotected.
///
/// The registration must outlive every access to the range, and must drop before the range is unmapped.
pub(crate) fn register(range: Range<usize>, mark: &Arc<AtomicBool>) -> Option<Registration> {
    if range.is_empty() || !install() {
        return None;
    }
    let mut free = FREE.lock().unwrap_or_else(|e| e.into_inner());
    let index = match free.pop() {
        Some(index) => index as usize,
        None => {
            let used = USED.load(Ordering::Relaxed);
            if used == SLOTS {
                return None;
            }
            // The slot is empty until the version says otherwise, so the handler may see it at once.
            USED.store(used + 1, Ordering::Release);
            used
        }
    };
    let mark = Arc::clone(mark);
    TABLE[index].set(range, Arc::as_ptr(&mark).cast_mut());
    Some(Registration { index, _mark: mark })
}

/// One protected region.
#[derive(Debug)]
pub(crate) struct Registration {
    index: usize,
    /// Keeps alive what the slot points at.
    _mark: Arc<AtomicBool>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap_or_else(|e| e.into_inner());
        TABLE[self.index].set(0..0, std::ptr::null_mut());
        free.push(self.index as u32);
    }
}

#[derive(Debug)]
struct Slot {
    version: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    mark: AtomicPtr<AtomicBool>,
}

impl Slot {
    const fn empty() -> Slot {
        Slot {
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            mark: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Only under the lock of `FREE`.
    fn set(&self, range: Range<usize>, mark: *mut AtomicBool) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        self.start.store(range.start, Ordering::Relaxed);
        self.end.store(range.end, Ordering::Relaxed);
        self.mark.store(mark, Ordering::Relaxed);
        self.version.store(version + 2, Ordering::Release);
    }

    /// The mark of the region when it holds `address`. A slot under change cannot hold it: the region of a faulting
    /// address is alive, so its slot is at rest.
    fn find(&self, address: usize) -> Option<*mut AtomicBool> {
        let version = self.version.load(Ordering::Acquire);
        if version % 2 == 1 {
            return None;
        }
        let start = self.start.load(Ordering::Relaxed);
        let end = self.end.load(Ordering::Relaxed);
        let mark = self.mark.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let at_rest = self.version.load(Ordering::Relaxed) == version;
        (at_rest && start <= address && address < end && !mark.is_null()).then_some(mark)
    }
}

static TABLE: [Slot; SLOTS] = [const { Slot::empty() }; SLOTS];
/// Slots the handler looks at: 0..USED.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Slots below USED that are empty. Its lock guards every change of the table.
static FREE: Mutex<Vec<u32>> = Mutex::new(Vec::new());
/// What SIGBUS did before; `None` when it could not be asked or our handler not be installed.
static PREVIOUS: OnceLock<Option<libc::sigaction>> = OnceLock::new();
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(4096);

/// Installs the handler once; says whether it is there.
fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        PAGE_BYTES.store(rustix::param::page_size(), Ordering::Relaxed);
        // SAFETY: an all-zero `sigaction` is a valid value of that C struct (default action, empty mask).
        let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: asks only; `old` is a live local of the right type.
        let asked = unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut old) } == 0;
        // Set before the handler can run.
        let _ = PREVIOUS.set(asked.then_some(old));
        if !asked {
            return false;
        }
        // SAFETY: as above.
        let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
        new.sa_sigaction = handler as usize;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: `new` is fully set, and `on_sigbus` has the signature that SA_SIGINFO asks for and calls only what is safe
        // in a signal handler: atomics, `mmap`, `sigaction`, `raise`.
        unsafe { libc::sigaction(libc::SIGBUS, &new, std::ptr::null_mut()) == 0 }
    })
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: errno is a thread-local of this thread; saved because the interrupted code may be about to read it.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo; a positive code says it is a fault, which has an address.
    let (by_kernel, address) = unsafe { ((*info).si_code > 0, (*info).si_addr() as usize) };
    if !(by_kernel && replace_page(address)) {
        pass_on(signal, info, context, by_kernel);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Maps zeros over the page of `address` when a live region holds it, and sets its mark.
fn replace_page(address: usize) -> bool {
    let used = USED.load(Ordering::Acquire);
    let Some(mark) = TABLE[..used].iter().find_map(|s| s.find(address)) else {
        return false;
    };
    let page_bytes = PAGE_BYTES.load(Ordering::Relaxed);
    let page = address & !(page_bytes - 1);
    // SAFETY: the page belongs to a registered region, whose owner keeps it mapped while anyone touches it (and the faulting
    // thread does). Nothing else is replaced: maps begin at a page. The bytes were unreadable, so no reference loses any.
    let mapped = unsafe {
        libc::mmap(
            page as *mut libc::c_void,
            page_bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if mapped == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: the slot was at rest when read and its region is alive (see above), so its `Registration` is, which holds the
    // `Arc` that `mark` points into.
    unsafe { (*mark).store(true, Ordering::Release) };
    true
}

/// Does what SIGBUS did before us.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void, by_kernel: bool) {
    let previous = PREVIOUS.get().copied().flatten();
    let (action, flags) = previous.map_or((libc::SIG_DFL, 0), |p| (p.sa_sigaction, p.sa_flags));
    if action == libc::SIG_IGN && !by_kernel {
        return;
    }
    if action == libc::SIG_DFL || action == libc::SIG_IGN {
        // SAFETY: an all-zero `sigaction` is the default action with an empty mask.
        unsafe {
            let default: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, &default, std::ptr::null_mut());
        }
        if !by_kernel {
            // SAFETY: safe in a handler; delivered, with the default action, when this one returns. A fault comes again by
            // itself.
            unsafe { libc::raise(signal) };
        }
    } else if flags & libc::SA_SIGINFO != 0 {
        // SAFETY: whoever installed this address with SA_SIGINFO vouched for this signature; the arguments are the kernel's.
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
            unsafe { std::mem::transmute(action) };
        handler(signal, info, context);
    } else {
        // SAFETY: as above, without SA_SIGINFO.
        let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(action) };
        handler(signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memmap2::{MmapOptions, MmapRaw};

    fn mapped_pages(pages: usize) -> (std::fs::File, MmapRaw, usize) {
        let page = rustix::param::page_size();
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &vec![7u8; pages * page], 0).unwrap();
        let map = MmapOptions::new().len(pages * page).map_raw(&file).unwrap();
        (file, map, page)
    }

    fn range(map: &MmapRaw) -> Range<usize> {
        let start = map.as_mut_ptr() as usize;
        start..start + map.len()
    }

    /// Reads a byte of a map whose file may have been cut.
    fn byte(map: &MmapRaw, at: usize) -> u8 {
        assert!(at < map.len());
        // SAFETY: inside the map, which is alive; volatile, because the byte may change under us.
        unsafe { map.as_mut_ptr().add(at).read_volatile() }
    }

    #[test]
    fn a_file_cut_under_its_map_gives_zeros_and_sets_the_marks() {
        let (file, map, page) = mapped_pages(3);
        let (_other_file, other, _) = mapped_pages(1);
        let mark = Arc::new(AtomicBool::new(false));
        let other_mark = Arc::new(AtomicBool::new(false));
        let _other_registration = register(range(&other), &other_mark).unwrap();
        let _registration = register(range(&map), &mark).unwrap();
        file.set_len(page as u64).unwrap();
        assert_eq!(byte(&map, 10), 7);
        assert!(!mark.load(Ordering::Acquire));
        assert_eq!(byte(&map, 2 * page + 5), 0);
        assert!(mark.load(Ordering::Acquire));
        assert_eq!(byte(&map, page + 5), 0, "a second page of the same region");
        // SAFETY: inside the map; the page is anonymous by now.
        unsafe { map.as_mut_ptr().add(page).write_volatile(1) };
        assert_eq!(byte(&other, 0), 7);
        assert!(!other_mark.load(Ordering::Acquire));
    }

    #[test]
    fn faults_on_many_threads_at_once_while_regions_come_and_go() {
        let before = USED.load(Ordering::Acquire);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let (file, map, page) = mapped_pages(2);
                        let mark = Arc::new(AtomicBool::new(false));
                        let registration = register(range(&map), &mark).unwrap();
                        file.set_len(0).unwrap();
                        assert_eq!(byte(&map, page), 0);
                        assert!(mark.load(Ordering::Acquire));
                        drop(registration);
                        drop(map);
                    }
                });
            }
        });
        // Slots are used again: other tests hold a few at the same time.
        assert!(USED.load(Ordering::Acquire) < before + 40);
    }

    #[test]
    fn a_fault_marks_its_own_directory_in_a_slot_used_before() {
        for cut in [true, false, true, false] {
            let (file, map, page) = mapped_pages(1);
            let mark = Arc::new(AtomicBool::new(false));
            let registration = register(range(&map), &mark).unwrap();
            if cut {
                file.set_len(0).unwrap();
            }
            assert_eq!(byte(&map, page / 2), if cut { 0 } else { 7 });
            assert_eq!(mark.load(Ordering::Acquire), cut);
            drop(registration);
        }
    }

    #[test]
    fn a_fault_outside_every_region_still_kills() {
        let (known_file, known, _) = mapped_pages(1);
        let (foreign_file, foreign, _) = mapped_pages(1);
        let mark = Arc::new(AtomicBool::new(false));
        let _registration = register(range(&known), &mark).unwrap();
        foreign_file.set_len(0).unwrap();
        drop(known_file);
        // SAFETY: the child calls nothing but a memory access and `_exit`, which are safe after a fork of many threads.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            byte(&foreign, 0);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: `child` is our child and `status` a live local.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert!(libc::WIFSIGNALED(status), "child ended with status {status:#x}");
        assert_eq!(libc::WTERMSIG(status), libc::SIGBUS);
    }
}
