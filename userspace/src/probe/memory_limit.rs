//! How much memory maps and programs may take: before Linux 5.11 it counts as locked by their user, whose other
//! processes are at their limits then, too (`bpf_charge_memlock`, kernel/bpf/syscall.c).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// `RLIMIT_MEMLOCK`, raised until dropped: the workload inherits what it was before.
pub(super) struct MemoryLimit(Rlimit);

impl MemoryLimit {
    /// Where that is not permitted, creating the maps says so.
    pub(super) fn raise() -> Self {
        let before = getrlimit(Resource::Memlock);
        let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
        Self(before)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // A limit that was not raised cannot fail to be what it was.
        let _ = setrlimit(Resource::Memlock, self.0);
    }
}
