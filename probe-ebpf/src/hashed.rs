//! What is known of each task, in a hash map: for kernels before 5.13, whose tracing programs have no task storage.
//! To their verifiers the running task is a number (`bpf_get_current_task`), so a helper reads what is in it.

use aya_ebpf::{
    bindings::{BPF_NOEXIST, task_struct},
    btf_maps::{Array, HashMap},
    helpers::generated::bpf_get_current_task,
    macros::{btf_map, raw_tracepoint},
    programs::RawTracePointContext,
};
use core::ffi::c_void;
use probe_ebpf::{PROGRAM_FIRST, PROGRAM_OTHER, PROGRAMS, TASKS_HASHED, Task, status};

use crate::{
    maps::{STATUS, add, count},
    offsets::{fixed, read},
};

/// By the task's address: its number changes when a thread executes a program (`de_thread`, fs/exec.c). An entry goes
/// at the task's end, before its address can be another's.
#[btf_map(name = "TASKS")]
static MAP: HashMap<u64, Task, { TASKS_HASHED }> = HashMap::new();

/// Which program indices are taken.
#[btf_map]
static INDICES: HashMap<u32, u32, { PROGRAMS }> = HashMap::new();

/// Offset of `task_struct.stack`, filled in by userspace before load.
#[unsafe(no_mangle)]
static TASK_STACK: u32 = 0;

/// Offset of a task's registers in its stack: the same for all.
#[btf_map]
static REGISTERS: Array<u64, 1> = Array::new();

pub(crate) struct Tasks;
pub(crate) static TASKS: Tasks = Tasks;

impl Tasks {
    /// The task's value, when it has one.
    #[inline(always)]
    pub(crate) fn get(&self, task: *mut task_struct) -> Option<&'static mut Task> {
        // SAFETY: only the task itself and its creator (before it runs) write to it. Somebody else who holds it when
        // the task ends may see it become that of another task of the workload.
        unsafe { MAP.get_ptr_mut(task as u64)?.as_mut() }
    }

    /// The task's value, made from `initial` when it has none.
    #[inline(always)]
    pub(crate) fn get_or_insert(
        &self,
        task: *mut task_struct,
        initial: &mut Task,
    ) -> Option<&'static mut Task> {
        // What is there already stays; where there is no room nothing is found.
        let _ = MAP.insert(task as u64, &*initial, u64::from(BPF_NOEXIST));
        self.get(task)
    }

    /// Notes the end of a task; whether nobody did before. Nothing of a task is recorded from there on (`do_exit`): it
    /// only gives back what it has.
    #[inline(always)]
    pub(crate) fn end(&self, task: *mut task_struct, _: &mut Task) -> bool {
        MAP.remove(task as u64).is_ok()
    }
}

/// The running task.
#[inline(always)]
pub(crate) fn current() -> *mut task_struct {
    // SAFETY: takes no argument, cannot fail.
    unsafe { bpf_get_current_task() as *mut task_struct }
}

/// A field of a task.
#[inline(always)]
pub(crate) fn field<T: Copy + Default>(task: *mut task_struct, offset: usize) -> T {
    read(task as u64, offset)
}

#[inline(always)]
fn stack(task: *mut task_struct) -> u64 {
    read(task as u64, fixed(&TASK_STACK) as usize)
}

/// Where the kernel keeps a task's registers during a system call: at the end of its stack (`task_pt_regs`,
/// arch/x86/include/asm/processor.h), whose size no type tells. The helper for it came with Linux 5.15.
#[inline(always)]
pub(crate) fn registers(task: *mut task_struct) -> u64 {
    REGISTERS.get(0).map_or(0, |offset| stack(task) + *offset)
}

/// At `sys_enter` while userspace makes a system call, to find that out. With what a BTF tracepoint hands in one may
/// not calculate.
#[raw_tracepoint]
pub(crate) fn measure(ctx: RawTracePointContext) -> i32 {
    if let Some(offset) = REGISTERS.get_ptr_mut(0) {
        // SAFETY: a map's value, aligned; whoever writes to it writes the same.
        unsafe { offset.write_volatile(ctx.arg::<u64>(0) - stack(current())) };
    }
    0
}

/// The next index for a program: one that nobody else took, which the map decides. Whoever took one before may not
/// have counted it yet, so those behind it are tried, too.
#[inline(always)]
pub(crate) fn next_program() -> Option<u32> {
    const TRIES: u32 = 16;
    let used = STATUS.get_ptr_mut(status::PROGRAMS_USED)?;
    // SAFETY: a map's value is readable; other processors add to it.
    let first = unsafe { used.read_volatile() } as u32 + PROGRAM_FIRST;
    for index in first..first + TRIES {
        if INDICES.insert(index, 1, u64::from(BPF_NOEXIST)).is_ok() {
            add(used);
            return Some(index);
        }
    }
    count(status::PROGRAMS_FULL);
    None
}

/// Gives a task its program unless it has one. A task that executes another just now may keep this one, in the
/// evidence; to compare and exchange in one came with Linux 5.12.
#[inline(always)]
pub(crate) fn set_program(state: &mut Task, program: u32) {
    if state.program == PROGRAM_OTHER {
        state.program = program;
    }
}

/// Run by userspace (`BPF_PROG_TEST_RUN`), which knows no task's address: marks the running task, or with stage 0
/// forgets it. Tells whether that was done, which the macro for such programs would not.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/mark")]
extern "C" fn mark(context: *mut c_void) -> i32 {
    let ctx = RawTracePointContext::new(context);
    let task = current();
    let mut initial = Task { stage: ctx.arg(0), launches: ctx.arg(1), ..Task::default() };
    let done = if initial.stage == 0 {
        MAP.remove(task as u64).is_ok()
    } else {
        TASKS.get_or_insert(task, &mut initial).is_some()
    };
    i32::from(done)
}
