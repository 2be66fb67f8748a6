//! What a runtime may call at any time, seldom enough that no number of starts shows all of it.

use std::collections::BTreeMap;

/// What the Go runtime does beside the program, from its source (`src/runtime/os_linux.go` and what calls it).
const GO: [(&str, &str); 12] = [
    ("epoll_pwait", "the scheduler of Go polls for I/O when it has nothing else to do (netpoll)"),
    ("futex", "the locks of Go, and its sleeping threads"),
    ("getpid", "comes before the tgkill by which a thread of Go preempts another (signalM)"),
    ("madvise", "the heap of Go grows or gives memory back"),
    ("mmap", "the heap of Go grows"),
    ("munmap", "the heap of Go gives memory back"),
    ("nanosleep", "a thread of Go waits for another (usleep)"),
    ("rt_sigprocmask", "a thread of Go starts or ends others with signals blocked"),
    ("rt_sigreturn", "the end of the signal handler by which Go preempts a goroutine (preemptM)"),
    ("sched_yield", "a thread of Go waits for a lock that is held for moments (osyield)"),
    ("sigaltstack", "a thread of Go that starts or ends"),
    ("tgkill", "a thread of Go preempts another by a signal (signalM)"),
];

/// With the reason for each; nothing for a runtime that is not of Go.
pub(super) fn of_go(build: &str) -> BTreeMap<String, String> {
    // `go: go1.19.8`
    if !build.contains("go: go") {
        return BTreeMap::new();
    }
    GO.into_iter().map(|(name, why)| (name.to_owned(), why.to_owned())).collect()
}
