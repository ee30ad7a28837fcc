//! The entry point: looks at the arguments, and moves the program where a container cannot write to it.

use std::arch::global_asm;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;

use super::PROTECTED;
use super::raw::{AT_FDCWD, call};
use super::remap::move_to;

// The kernel leaves argc, argv and envp on the stack; rdx may hold the dynamic linker's destructor, for `_start`.
// The stack is aligned to 16 bytes here, and must be again when a function is called.
global_asm!(
    ".globl pintle_entry",
    ".type pintle_entry,@function",
    "pintle_entry:",
    "push rdx",
    "lea rdi, [rsp + 8]",
    "sub rsp, 8",
    "call {early}",
    "add rsp, 8",
    "pop rdx",
    "jmp _start",
    early = sym early,
);

const EMPTY: *const libc::c_char = c"".as_ptr();
const EXE: *const libc::c_char = c"/proc/self/exe".as_ptr();
const AT_EMPTY_PATH: usize = 0x1000;
const OPEN_TREE_CLONE_CLOEXEC: usize = 1 | 0o2_000_000;
const ST_RDONLY: i64 = 1;
/// struct mount_attr with MOUNT_ATTR_RDONLY set.
static READ_ONLY: [u64; 4] = [1, 0, 0, 0];

/// Moves to a read-only mount if this is a command that enters containers: in place, or by executing it from there.
/// Comes back when that is done in place, when there is nothing to do, or when it cannot be done.
///
/// # Safety
/// `stack` is what the kernel left for a new program: argc, argv, NULL, envp, NULL, the auxiliary vector.
unsafe extern "C" fn early(stack: *const usize) {
    // SAFETY: by the caller's promise all of these lie within what the kernel left; volatile reads keep the compiler
    // from making library calls of the loops. The structures outlive their calls.
    unsafe {
        let argc = stack.read_volatile();
        let argv = stack.add(1);
        if !exposed(argc, argv) {
            return;
        }
        // struct statfs is 120 bytes, f_flags the 11th word.
        let mut fs = MaybeUninit::<[i64; 16]>::uninit();
        let fs = fs.as_mut_ptr().cast::<i64>();
        let known = call(libc::SYS_statfs, EXE as usize, fs as usize, 0, 0, 0) == 0;
        if !known || fs.add(10).read_volatile() & ST_RDONLY != 0 {
            return;
        }
        let clone = OPEN_TREE_CLONE_CLOEXEC;
        let tree = call(libc::SYS_open_tree, AT_FDCWD, EXE as usize, clone, 0, 0);
        if tree < 0 {
            return;
        }
        let (tree, attr) = (tree as usize, &raw const READ_ONLY as usize);
        if call(libc::SYS_mount_setattr, tree, EMPTY as usize, AT_EMPTY_PATH, attr, 32) == 0 {
            let envp = argv.add(argc + 1);
            if move_to(tree, stack) {
                PROTECTED.store(true, Ordering::Relaxed);
            } else {
                // Comes back only on failure.
                call(libc::SYS_execveat, tree, EMPTY as usize, argv as usize, envp as usize, AT_EMPTY_PATH);
            }
        }
        call(libc::SYS_close, tree, 0, 0, 0, 0);
    }
}

/// Whether one of the arguments is a command that enters containers. A flag's value that looks like one costs an
/// exec, no more.
unsafe fn exposed(argc: usize, argv: *const usize) -> bool {
    let mut at = 1;
    while at < argc {
        // SAFETY: `at` is below argc, and arguments end with a zero byte.
        let word = unsafe { argv.add(at).read_volatile() } as *const u8;
        // SAFETY: as above.
        if unsafe { is(word, b"create\0") || is(word, b"run\0") || is(word, b"exec\0") || is(word, b"shim\0") } {
            return true;
        }
        at += 1;
    }
    false
}

unsafe fn is(word: *const u8, name: &'static [u8]) -> bool {
    let mut at = 0;
    while at < name.len() {
        // SAFETY: both are equal up to here, and `name` ends with the first zero.
        let same = unsafe { word.add(at).read_volatile() == name.as_ptr().add(at).read_volatile() };
        if !same {
            return false;
        }
        at += 1;
    }
    true
}
