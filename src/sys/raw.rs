//! System calls without the C library, for code that runs in a child that shares our memory: no errno, no thread-local
//! storage, no lock. A failed call gives its negated error number.

use core::ffi::c_void;
use std::os::fd::{FromRawFd, OwnedFd};

/// The `clone_args` of clone3 up to the members that Linux 5.5 knows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct CloneArgs {
    flags: u64,
    /// Address of an int that gets the pidfd.
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// What a child runs: it never returns.
pub type Entry = extern "C" fn(*mut c_void) -> !;

/// A new process that shares our memory.
#[derive(Debug)]
pub struct Cloned {
    pub pid: u32,
    pub pidfd: OwnedFd,
}

const COMMON: u64 = (libc::CLONE_PIDFD | libc::CLONE_VM | libc::CLONE_FILES) as u64;

/// CLONE_CLEAR_SIGHAND, which the C library's headers name only as a 64-bit number.
const CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// clone3: a child on the given stack, sharing memory and descriptors, with default signal dispositions.
///
/// # Safety
/// The stack is `size` writable bytes, its end aligned to 16, in use by nobody else until the child has executed a
/// program or ended. `entry` and what it reaches through `argument` live as long, and it makes only raw system calls.
pub unsafe fn clone3(stack: *mut u8, size: usize, entry: Entry, argument: *mut c_void) -> Result<Cloned, i32> {
    let mut pidfd: i32 = -1;
    let args = CloneArgs {
        flags: COMMON | CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd).expose_provenance() as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.expose_provenance() as u64,
        stack_size: size as u64,
        ..CloneArgs::default()
    };
    // SAFETY: `args` is as the kernel expects it and lives over the call; for the rest the caller answers.
    let result = unsafe {
        arch::clone_onto(
            libc::SYS_clone3,
            [(&raw const args).expose_provenance(), size_of::<CloneArgs>(), 0, 0, 0],
            entry,
            argument,
        )
    };
    cloned(result, &pidfd)
}

/// clone, where clone3 is refused: the same, but the child inherits the signal handlers and has to reset them.
///
/// # Safety
/// As `clone3`.
pub unsafe fn clone(stack: *mut u8, size: usize, entry: Entry, argument: *mut c_void) -> Result<Cloned, i32> {
    let mut pidfd: i32 = -1;
    let flags = COMMON as usize | libc::SIGCHLD as usize;
    let top = stack.expose_provenance() + size;
    // The order of the last two arguments differs between architectures; both are 0 here.
    // SAFETY: the pidfd's place lives over the call; for the rest the caller answers.
    let result = unsafe {
        arch::clone_onto(libc::SYS_clone, [flags, top, (&raw mut pidfd).expose_provenance(), 0, 0], entry, argument)
    };
    cloned(result, &pidfd)
}

fn cloned(result: isize, pidfd: &i32) -> Result<Cloned, i32> {
    if result < 0 {
        return Err(-result as i32);
    }
    // The kernel wrote the number behind the compiler's back.
    // SAFETY: a reference is valid for reads; the descriptor is new and ours alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(core::ptr::read_volatile(pidfd)) };
    Ok(Cloned { pid: result as u32, pidfd })
}

/// A system call with up to six arguments.
///
/// # Safety
/// Whatever the call asks of its arguments.
pub unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> isize {
    // SAFETY: the caller answers for the arguments.
    unsafe { arch::syscall(number, args) }
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use core::arch::asm;
    use core::ffi::c_void;

    use super::Entry;

    pub unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> isize {
        let result;
        // SAFETY: the kernel changes rax, rcx and r11, and what the call writes to, for which the caller answers.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") number as isize => result,
                in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
                in("r10") args[3], in("r8") args[4], in("r9") args[5],
                lateout("rcx") _, lateout("r11") _,
                options(nostack),
            );
        }
        result
    }

    pub unsafe fn clone_onto(number: libc::c_long, args: [usize; 5], entry: Entry, argument: *mut c_void) -> isize {
        let result;
        // SAFETY: in the parent the call returns as any other. The child has our registers and the new stack; it goes
        // to `entry` from within this block and never comes back to compiled code of this frame.
        unsafe {
            asm!(
                "syscall",
                "test rax, rax",
                "jnz 2f",
                "xor ebp, ebp",
                "mov rdi, r13",
                "call r12",
                "ud2",
                "2:",
                inlateout("rax") number as isize => result,
                in("rdi") args[0], in("rsi") args[1], in("rdx") args[2], in("r10") args[3], in("r8") args[4],
                in("r12") entry, in("r13") argument,
                lateout("rcx") _, lateout("r11") _,
            );
        }
        result
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use core::arch::asm;
    use core::ffi::c_void;

    use super::Entry;

    pub unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> isize {
        let result;
        // SAFETY: the kernel changes x0 alone, and what the call writes to, for which the caller answers.
        unsafe {
            asm!(
                "svc #0",
                in("x8") number,
                inlateout("x0") args[0] => result,
                in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4], in("x5") args[5],
                options(nostack),
            );
        }
        result
    }

    pub unsafe fn clone_onto(number: libc::c_long, args: [usize; 5], entry: Entry, argument: *mut c_void) -> isize {
        let result;
        // SAFETY: in the parent the call returns as any other. The child has our registers and the new stack; it goes
        // to `entry` from within this block and never comes back to compiled code of this frame.
        unsafe {
            asm!(
                "svc #0",
                "cbnz x0, 2f",
                "mov x29, xzr",
                "mov x30, xzr",
                "mov x0, x21",
                "blr x20",
                "brk #1",
                "2:",
                in("x8") number,
                inlateout("x0") args[0] => result,
                in("x1") args[1], in("x2") args[2], in("x3") args[3], in("x4") args[4],
                in("x20") entry, in("x21") argument,
            );
        }
        result
    }
}

#[cfg(target_arch = "riscv64")]
mod arch {
    use core::arch::asm;
    use core::ffi::c_void;

    use super::Entry;

    pub unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> isize {
        let result;
        // SAFETY: the kernel changes a0 alone, and what the call writes to, for which the caller answers.
        unsafe {
            asm!(
                "ecall",
                in("a7") number,
                inlateout("a0") args[0] => result,
                in("a1") args[1], in("a2") args[2], in("a3") args[3], in("a4") args[4], in("a5") args[5],
                options(nostack),
            );
        }
        result
    }

    pub unsafe fn clone_onto(number: libc::c_long, args: [usize; 5], entry: Entry, argument: *mut c_void) -> isize {
        let result;
        // SAFETY: in the parent the call returns as any other. The child has our registers and the new stack; it goes
        // to `entry` from within this block and never comes back to compiled code of this frame.
        unsafe {
            asm!(
                "ecall",
                "bnez a0, 2f",
                "mv a0, s3",
                "jalr s2",
                "ebreak",
                "2:",
                in("a7") number,
                inlateout("a0") args[0] => result,
                in("a1") args[1], in("a2") args[2], in("a3") args[3], in("a4") args[4],
                in("s2") entry, in("s3") argument,
            );
        }
        result
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
compile_error!("fated knows the system calls of x86_64, aarch64 and riscv64; add this architecture to src/sys/raw.rs");

#[cfg(test)]
mod tests {
    #[test]
    fn a_raw_call_gives_its_result_or_the_negated_error() {
        // SAFETY: neither call takes a pointer.
        let (pid, bad) = unsafe {
            (super::syscall(libc::SYS_getpid, [0; 6]), super::syscall(libc::SYS_close, [usize::MAX, 0, 0, 0, 0, 0]))
        };
        assert_eq!(pid as u32, std::process::id());
        assert_eq!(bad, -libc::EBADF as isize);
    }
}
