//! Prefetching of memory that will be read soon. Invariant: a hint only, without effect on results.

/// Fetches the first two cache lines of `bytes`. Does nothing if `bytes` is empty or the
/// architecture has no such instruction.
#[inline(always)]
pub fn prefetch(bytes: &[u8]) {
    let Some(second) = bytes.first().map(|_| bytes.len().min(64 + 1) - 1) else { return };
    for at in [0, second] {
        let line = &raw const bytes[at];
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
