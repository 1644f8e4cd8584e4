//! Stacks for children that share our memory until they have executed their program.

use core::ptr::NonNull;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use super::check;

/// Usable bytes of a stack. The child's code needs less than two KiB; unused pages cost no memory.
const SIZE: usize = 64 * 1024;

/// How many unused stacks are kept.
const KEPT: usize = 32;

/// Memory for one child to run on, with an inaccessible part below it.
#[derive(Debug)]
pub struct Stack {
    base: NonNull<u8>,
    guard: usize,
}

impl Stack {
    fn new() -> io::Result<Self> {
        // SAFETY: no pointer is passed.
        let guard = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(4096) as usize;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe { libc::mmap(core::ptr::null_mut(), guard + SIZE, access, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let stack = Self { base, guard };
        // SAFETY: the first pages of our own new mapping, which nothing uses yet.
        check(unsafe { libc::mprotect(base.as_ptr().cast(), guard, libc::PROT_NONE) })?;
        Ok(stack)
    }

    /// The lowest usable address and the number of usable bytes above it; their sum is aligned for a call.
    pub fn range(&self) -> (*mut u8, usize) {
        // SAFETY: the offset lies within the mapping.
        (unsafe { self.base.as_ptr().add(self.guard) }, SIZE)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours; who owns the stack knows that no child runs on it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.guard + SIZE) };
    }
}

/// Stacks to take and to give back.
#[derive(Clone, Debug, Default)]
pub struct StackPool(Rc<RefCell<Vec<Stack>>>);

impl StackPool {
    /// An unused stack, or a new one.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn take(&self) -> io::Result<Stack> {
        match self.0.borrow_mut().pop() {
            Some(stack) => Ok(stack),
            None => Stack::new(),
        }
    }

    /// Keeps a stack on which nothing runs any more for the next child.
    pub fn give_back(&self, stack: Stack) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT {
            kept.push(stack);
        }
    }
}
