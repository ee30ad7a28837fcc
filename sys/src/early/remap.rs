//! Takes the place of every page of this program by the same page of its read-only copy.

use std::mem::MaybeUninit;

use super::raw::{AT_FDCWD, call, call6};

/// What of the auxiliary vector tells where this program lies (getauxval(3)).
struct Image {
    headers: usize,
    count: usize,
    loader: usize,
}

/// Reads the auxiliary vector, and notes where arguments, environment, stack and heap are.
///
/// # Safety
/// As for [`early`]; `told` may be written.
unsafe fn image(stack: *const usize, told: *mut Told) -> Image {
    let mut image = Image { headers: 0, count: 0, loader: 0 };
    // SAFETY: all lists end with a zero, by the caller's promise.
    unsafe {
        let argc = stack.read_volatile();
        let argv = stack.add(1);
        let envp = argv.add(argc + 1);
        let mut at = envp;
        while at.read_volatile() != 0 {
            at = at.add(1);
        }
        let (arg_start, arg_end) = strings(argv, argc);
        let (env_start, env_end) = strings(envp, at.offset_from(envp) as usize);
        let brk = call(libc::SYS_brk, 0, 0, 0, 0, 0) as usize;
        (&raw mut (*told).start_brk).write_volatile(brk);
        (&raw mut (*told).brk).write_volatile(brk);
        (&raw mut (*told).start_stack).write_volatile(stack as usize);
        (&raw mut (*told).arg_start).write_volatile(arg_start);
        (&raw mut (*told).arg_end).write_volatile(arg_end);
        // An empty environment lies behind the arguments.
        let empty = env_start == 0;
        (&raw mut (*told).env_start).write_volatile(if empty { arg_end } else { env_start });
        (&raw mut (*told).env_end).write_volatile(if empty { arg_end } else { env_end });
        (&raw mut (*told).auxv).write_volatile(0);
        (&raw mut (*told).auxv_size).write_volatile(0);
        at = at.add(1);
        loop {
            let (kind, value) = (at.read_volatile() as u64, at.add(1).read_volatile());
            match kind {
                libc::AT_NULL => return image,
                libc::AT_PHDR => image.headers = value,
                libc::AT_PHNUM => image.count = value,
                libc::AT_BASE => image.loader = value,
                _ => {}
            }
            at = at.add(2);
        }
    }
}

/// Where the first of `count` strings begins and the last ends: the kernel lays them out one after the other.
///
/// # Safety
/// `list` has so many pointers to strings.
unsafe fn strings(list: *const usize, count: usize) -> (usize, usize) {
    if count == 0 {
        return (0, 0);
    }
    // SAFETY: the caller's promise; strings end with a zero.
    unsafe {
        let mut end = list.add(count - 1).read_volatile();
        while (end as *const u8).read_volatile() != 0 {
            end += 1;
        }
        (list.read_volatile(), end + 1)
    }
}

/// struct prctl_mm_map (linux/prctl.h): what procfs tells of a program, and its file.
#[repr(C)]
struct Told {
    start_code: usize,
    end_code: usize,
    start_data: usize,
    end_data: usize,
    start_brk: usize,
    brk: usize,
    start_stack: usize,
    arg_start: usize,
    arg_end: usize,
    env_start: usize,
    env_end: usize,
    auxv: usize,
    auxv_size: u32,
    exe_fd: u32,
}

/// Takes the place of every page of this program by the same page of the same file on the mount `tree`, and tells the
/// kernel that this is the program's file (PR_SET_MM_MAP, which refuses while a page of the old one is mapped, and wants
/// CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE and a kernel that can checkpoint). Nothing has run yet, so what the file holds
/// is what memory holds. A whole exec cheaper than executing it anew. Whether it worked; if not, the program is as good
/// as before.
///
/// # Safety
/// As for [`early`], before anything was relocated.
pub(super) unsafe fn move_to(tree: usize, stack: *const usize) -> bool {
    const PR_SET_MM: usize = 35;
    const PR_SET_MM_MAP: usize = 14;
    // SAFETY: `stack` and what it leads to describe this very program; `told` outlives the call.
    unsafe {
        let mut told = MaybeUninit::<Told>::uninit();
        let told = told.as_mut_ptr();
        let image = image(stack, told);
        // A dynamic loader has been at work: memory is no longer what the file holds.
        if image.headers == 0 || image.loader != 0 {
            return false;
        }
        let mut path = MaybeUninit::<[u8; 32]>::uninit();
        let path = path.as_mut_ptr().cast::<u8>();
        name_of(tree, path);
        let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
        let file = call(libc::SYS_openat, AT_FDCWD, path as usize, flags, 0, 0);
        if file < 0 {
            return false;
        }
        let file = file as usize;
        (&raw mut (*told).exe_fd).write_volatile(file as u32);
        let moved = move_segments(&image, file, told)
            && call(libc::SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, told as usize, size_of::<Told>(), 0) == 0;
        call(libc::SYS_close, file, 0, 0, 0, 0);
        moved
    }
}

/// Writes `/proc/self/fd/N`.
///
/// # Safety
/// `to` has room for 32 bytes.
unsafe fn name_of(fd: usize, to: *mut u8) {
    const PREFIX: &[u8; 14] = b"/proc/self/fd/";
    let mut digits = 1;
    let mut rest = fd / 10;
    while rest > 0 {
        digits += 1;
        rest /= 10;
    }
    // SAFETY: fourteen bytes, at most ten digits of a descriptor, and a zero.
    unsafe {
        let mut at = 0;
        while at < PREFIX.len() {
            to.add(at).write_volatile(PREFIX.as_ptr().add(at).read_volatile());
            at += 1;
        }
        to.add(at + digits).write_volatile(0);
        rest = fd;
        while digits > 0 {
            digits -= 1;
            to.add(at + digits).write_volatile(b'0' + (rest % 10) as u8);
            rest /= 10;
        }
    }
}

/// # Safety
/// As for [`move_to`]; `file` is the program's, `told` may be written.
unsafe fn move_segments(image: &Image, file: usize, told: *mut Told) -> bool {
    const PAGE: usize = 4096;
    let headers = image.headers as *const libc::Elf64_Phdr;
    let (mut bias, mut code, mut data) = (0, (usize::MAX, 0), (0, 0));
    let mut at = 0;
    while at < image.count {
        // SAFETY: the kernel says that there are so many headers.
        let header = unsafe { headers.add(at).read_volatile() };
        match header.p_type {
            libc::PT_PHDR => bias = image.headers.wrapping_sub(header.p_vaddr as usize),
            libc::PT_LOAD => {
                let start = bias.wrapping_add(header.p_vaddr as usize);
                let (first, end) = (start & !(PAGE - 1), start + header.p_filesz as usize);
                let offset = header.p_offset as usize & !(PAGE - 1);
                let flags = (libc::MAP_PRIVATE | libc::MAP_FIXED) as usize;
                let prot = protection(header.p_flags);
                // As the kernel's loader counts them (fs/binfmt_elf.c).
                if header.p_flags & libc::PF_X != 0 {
                    code = (code.0.min(start), code.1.max(end));
                }
                data = (data.0.max(start), data.1.max(end));
                // SAFETY: these pages hold the same bytes of the same file already.
                let mapped = unsafe { call6(libc::SYS_mmap, [first, end - first, prot, flags, file, offset]) };
                if mapped != first as isize {
                    return false;
                }
                if header.p_flags & libc::PF_W != 0 {
                    // SAFETY: up to the page's end lies what begins as zeros.
                    unsafe { clear(end, (end + PAGE - 1) & !(PAGE - 1)) };
                }
            }
            _ => {}
        }
        at += 1;
    }
    // SAFETY: the caller's promise.
    unsafe {
        (&raw mut (*told).start_code).write_volatile(code.0);
        (&raw mut (*told).end_code).write_volatile(code.1);
        (&raw mut (*told).start_data).write_volatile(data.0);
        (&raw mut (*told).end_data).write_volatile(data.1);
    }
    true
}

fn protection(flags: u32) -> usize {
    let bit = |from: u32, to: i32| if flags & from != 0 { to as usize } else { 0 };
    bit(libc::PF_R, libc::PROT_READ) | bit(libc::PF_W, libc::PROT_WRITE) | bit(libc::PF_X, libc::PROT_EXEC)
}

/// # Safety
/// `from..to` is writable and holds nothing.
unsafe fn clear(from: usize, to: usize) {
    let mut at = from;
    while at < to {
        // SAFETY: the caller's promise.
        unsafe { (at as *mut u8).write_volatile(0) };
        at += 1;
    }
}
