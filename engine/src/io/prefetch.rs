//! Prefetching of memory that will be read soon. Invariant: a hint only, without effect on results.

/// Bytes of a cache line, on most processors.
const LINE_LEN: usize = 64;

/// Fetches this many cache lines from the start of `bytes` on, which may be shorter. Does nothing
/// if `bytes` is empty or the architecture has no such instruction.
#[inline(always)]
pub fn prefetch<const LINE_COUNT: usize>(bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    for line in 0..LINE_COUNT {
        let line = bytes.as_ptr().wrapping_add(line * LINE_LEN);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint that reads nothing and cannot fault; SSE is part of every x86-64. Nothing
        // is owned by it.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(line.cast());
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: a hint that reads nothing and cannot fault. Nothing is owned by it.
        unsafe {
            std::arch::asm!(
                "prfm pldl1keep, [{}]",
                in(reg) line,
                options(nostack, readonly, preserves_flags)
            );
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let _ = line;
    }
}
