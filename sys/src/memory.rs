//! Giving memory back while a program waits.

/// Returns free heap to the kernel and drops the program's own clean, read-only pages from our resident set: they
/// stay in the page cache, which all copies of the program share, and come back by a minor fault when needed.
pub fn release() {
    // SAFETY: malloc_trim only returns memory that the allocator holds free.
    unsafe { libc::malloc_trim(0) };
    for (start, len) in clean_file_mappings(&std::fs::read_to_string("/proc/self/smaps").unwrap_or_default()) {
        // SAFETY: the range is a private file mapping without write permission and without a page of its own
        // (Anonymous: 0), so every page of it can be read again from the file. Failure changes nothing.
        unsafe { libc::madvise(start as *mut libc::c_void, len, libc::MADV_DONTNEED) };
    }
}

/// proc_pid_smaps(5): mappings of files, not writable, of which no page was ever changed (relocations change some).
fn clean_file_mappings(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (first, second) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        if !first.ends_with(':') {
            let private_and_fixed = second.len() == 4 && second.ends_with('p') && !second.contains('w');
            let file = fields.nth(3).is_some_and(|path| path.starts_with('/'));
            candidate = if private_and_fixed && file { range(first) } else { None };
        } else if first == "Anonymous:" && second == "0" {
            found.extend(candidate.take());
        }
    }
    found
}

fn range(text: &str) -> Option<(usize, usize)> {
    let (start, end) = text.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    Some((start, usize::from_str_radix(end, 16).ok()?.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_untouched_read_only_file_pages_are_dropped() {
        let smaps = "\
1000-3000 r-xp 00000000 fe:00 12 /bin/x\nRss: 4 kB\nAnonymous:             0 kB\n\
3000-4000 r--p 00002000 fe:00 12 /bin/x\nAnonymous:             4 kB\n\
4000-5000 rw-p 00003000 fe:00 12 /bin/x\nAnonymous:             0 kB\n\
5000-6000 r--p 00000000 00:00 0 [vvar]\nAnonymous:             0 kB\n\
6000-7000 r--s 00000000 fe:00 13 /etc/y\nAnonymous:             0 kB\n";
        assert_eq!(clean_file_mappings(smaps), [(0x1000, 0x2000)]);
    }

    #[test]
    fn the_program_runs_on_after_a_release() {
        release();
        assert_eq!("still here".len(), 10);
    }
}
