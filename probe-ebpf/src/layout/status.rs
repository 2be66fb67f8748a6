//! Indices into the status counters.

/// Facts that found their map full: capability checks.
pub const CAPABILITIES_FULL: u32 = 0;
/// Device accesses.
pub const DEVICES_FULL: u32 = 1;
/// Capability set requests.
pub const CAPABILITY_SETS_FULL: u32 = 2;
/// Failures.
pub const FAILURES_FULL: u32 = 3;
/// Tasks that could not be marked.
pub const UNTRACKED: u32 = 4;
/// Programs that found no index (evidence only).
pub const PROGRAMS_FULL: u32 = 5;
/// Exec events that found the ring buffer full (evidence only).
pub const EXEC_EVENTS_DROPPED: u32 = 6;
/// Tasks that were marked.
pub const STARTED: u32 = 7;
/// Marked tasks that ended.
pub const ENDED: u32 = 8;
/// Program indices given out.
pub const PROGRAMS_USED: u32 = 9;
/// Requests for a free loop device.
pub const LOOP_DEVICES_PICKED: u32 = 10;
/// Opened files that found their map full, or were too deep to be named.
pub const OPENED_FULL: u32 = 11;
/// Grows whenever a task joins or leaves the workload, or executes another program in it.
/// Whoever marks a running task as [`crate::STAGE_WORKLOAD`] from userspace has to add to it, too.
pub const GENERATION: u32 = 12;
/// Capability checks whose return was not seen.
pub const UNANSWERED: u32 = 13;
/// Mounting calls that found their map full.
pub const MOUNTS_FULL: u32 = 14;
/// How many there are.
pub const LENGTH: u32 = 15;
