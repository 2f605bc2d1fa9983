//! Reading an array through a mapping of its memory: no call, and no lock, for each element.
//!
//! It copies out and never hands a reference to the shared memory around: a writer may change
//! it at any time. Whoever needs one state compares the generation before and after.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::{self, NonNull};

/// The values of an array (`BPF_F_MMAPABLE`), mapped for reading; unmapped when dropped.
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps the first `len` bytes of the values; `len` is within the array and not zero.
    pub(super) fn new(map: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { start, len })
    }

    /// Copies the bytes from `at` on; false when they are not all within the mapping.
    pub(super) fn copy(&self, at: usize, to: &mut [u8]) -> bool {
        if at.checked_add(to.len()).is_none_or(|behind| behind > self.len) {
            return false;
        }
        // SAFETY: the range lies within the mapping, which lives as long as `self`; `to` is ours
        // and no part of it. The kernel may write there meanwhile: bytes have no invalid value,
        // and no reference to them is made.
        unsafe { ptr::copy_nonoverlapping(self.start.as_ptr().add(at), to.as_mut_ptr(), to.len()) };
        true
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this range was mapped by `new`, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
