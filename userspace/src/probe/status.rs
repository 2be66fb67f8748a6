//! The kernel side's counters, read without a system call that would make it miss something.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::NonNull,
};

use anyhow::{Context as _, Result, bail};
use aya::{Ebpf, maps::Map};
use probe_ebpf::status::LENGTH;

const SIZE: usize = LENGTH as usize * size_of::<u64>();

/// The map `STATUS`, mapped.
pub(super) struct Status(NonNull<u64>);

impl Status {
    pub(super) fn map(ebpf: &Ebpf) -> Result<Self> {
        let Some(Map::Array(map)) = ebpf.map("STATUS") else { bail!("the object has no STATUS") };
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let place = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SIZE,
                libc::PROT_READ,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("cannot map the counters");
        }
        Ok(Self(NonNull::new(place.cast()).context("cannot map the counters")?))
    }

    /// Their values now.
    pub(super) fn read(&self) -> [u64; LENGTH as usize] {
        // SAFETY: each is within the mapping; an aligned word is read whole, whoever writes to it meanwhile.
        std::array::from_fn(|index| unsafe { self.0.add(index).read_volatile() })
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this size, and nothing else points there.
        unsafe { libc::munmap(self.0.as_ptr().cast(), SIZE) };
    }
}
