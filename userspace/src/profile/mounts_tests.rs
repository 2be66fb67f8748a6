//! Tests of what mounting calls need.

use super::*;
use crate::trace::{Facts, Refusal};

fn call(syscall: &str, flags: u64, fstype: Option<&str>, source: &str, target: &str) -> MountCall {
    MountCall {
        program: "/bin/mount".to_owned(),
        abi: Abi::X86_64,
        syscall: syscall.to_owned(),
        fstype: fstype.map(str::to_owned),
        source: Some(source.to_owned()),
        target: Some(target.to_owned()),
        partial: false,
        flags,
        errno: None,
    }
}

fn trace(calls: Vec<MountCall>) -> Trace {
    Trace { mounts: Some(calls.into_iter().map(|call| (call, 1)).collect()), ..Trace::empty() }
}

fn needed(trace: &Trace) -> Vec<String> {
    let mut evidence = Evidence::default();
    let mounts = needed_mounts(trace, &mut evidence).unwrap();
    let shown: Vec<String> = mounts.iter().map(ToString::to_string).collect();
    assert!(shown.iter().all(|mount| evidence.mounts.contains_key(mount)), "no grant without evidence");
    shown
}

#[test]
fn the_kinds_of_mount_are_told_apart_as_the_kernel_does() {
    let flags =
        |flags| needed(&trace(vec![call("mount", flags, Some("ext4"), "/dev/vdb", "/mnt")])).remove(0);
    assert_eq!(flags(MS_SILENT), "mount ext4 /dev/vdb at /mnt (rw,silent)");
    assert_eq!(flags(1 | 2), "mount ext4 /dev/vdb at /mnt (nosuid,ro)");
    assert_eq!(flags(MS_BIND | MS_REC | 1), "rbind /dev/vdb to /mnt");
    assert_eq!(flags(MS_REMOUNT | MS_BIND | 1), "remount /mnt (bind,remount,ro)");
    assert_eq!(flags(1 << 18 | MS_REC), "make-rprivate /mnt");
    assert_eq!(flags(MS_MOVE), "move /dev/vdb to /mnt");
    assert_eq!(flags(1 << 25), "mount ext4 /dev/vdb at /mnt ()", "lazytime has no word, so any options");
}

#[test]
fn a_call_that_was_refused_or_came_to_no_judge_needs_nothing() {
    let failed = |errno: &str| {
        let failed =
            MountCall { errno: Some(errno.to_owned()), ..call("mount", 0, Some("tmpfs"), "none", "/mnt") };
        needed(&trace(vec![failed])).len()
    };
    assert_eq!([failed("EACCES"), failed("ENOENT"), failed("ENOSYS")], [0, 0, 0]);
    assert_eq!(failed("EPERM"), 1, "AppArmor would say EACCES where the capability is missing");
    assert_eq!(needed(&trace(vec![call("umount2", 0, None, "", "/mnt")])), [""; 0]);
}

#[test]
fn what_could_mean_something_in_a_rule_is_one_character() {
    let hostile = call("mount", 0, Some("a\"b"), "x, y", "/m\n{a,b}*@{X}\u{e9}");
    assert_eq!(needed(&trace(vec![hostile])), ["mount a?b x? y at /m??a?b??@?X??? (rw)"]);
}

#[test]
fn a_free_loop_device_is_any() {
    let mut trace = trace(vec![call("mount", 0, Some("ext4"), "/dev/loop3", "/mnt")]);
    trace.picks_loop_devices = true;
    assert_eq!(needed(&trace), ["mount ext4 /dev/loop* at /mnt (rw)"]);
}

#[test]
fn a_name_that_changes_from_run_to_run_is_any() {
    let mut trace = trace(vec![
        call("mount", 0, Some("tmpfs"), "none", "/tmp/tmp.aaa/x"),
        call("mount", 0, Some("tmpfs"), "none", "/other"),
    ]);
    let refused = |target: &str, renamed| Refusal {
        program: "mount".to_owned(),
        access: LsmAccess::Mount {
            fstype: Some("tmpfs".to_owned()),
            source: Some("none".to_owned()),
            target: target.to_owned(),
            flags: 0,
        },
        renamed,
        run: 1,
    };
    trace.refusals = Facts::from_iter([(refused("/tmp/tmp.bbb/x", true), 1)]);
    assert_eq!(needed(&trace), ["mount tmpfs none at /other (rw)", "mount tmpfs none at /tmp/*/x (rw)"]);
    trace.refusals = Facts::from_iter([(refused("/elsewhere", false), 1)]);
    assert_eq!(needed(&trace).len(), 3, "another place is another need");
}

#[test]
fn names_that_change_together_are_any_wherever_they_are() {
    let bind = |target: &str| LsmAccess::Mount {
        fstype: None,
        source: Some(format!("{target}/it")),
        target: target.to_owned(),
        flags: MS_BIND,
    };
    let pivot = |id: &str| LsmAccess::PivotRoot {
        target: format!("/run/{id}/root"),
        source: Some(format!("/run/{id}/root/old")),
    };
    let refusal = |access, run| (Refusal { program: "x".to_owned(), access, renamed: run > 1, run }, 1);
    let mut trace = trace(vec![]);
    trace.refusals = Facts::from_iter([
        refusal(bind("/run/a1/x/one"), 1),
        refusal(bind("/run/a1/x/other"), 1),
        refusal(bind("/run/a1/two"), 1),
        refusal(bind("/srv/other"), 1),
        refusal(pivot("a1"), 1),
        refusal(bind("/run/b2/x/one"), 2),
        refusal(bind("/run/b2/x/other"), 2),
        refusal(bind("/run/b2/two"), 2),
        refusal(pivot("b2"), 2),
    ]);
    let expected = [
        "bind /run/*/two/it to /run/*/two",
        "bind /run/*/x/one/it to /run/*/x/one",
        "bind /run/*/x/other/it to /run/*/x/other",
        "bind /srv/other/it to /srv/other",
        "pivot_root to /run/*/root, old root at /run/*/root/old",
    ];
    assert_eq!(needed(&trace), expected);
}

#[test]
fn a_path_through_a_link_of_proc_is_another_one_to_the_judge() {
    let through = |target: &str| needed(&trace(vec![call("mount", 0, Some("tmpfs"), "none", target)])).len();
    let links = ["/proc/self/fd/6", "/proc/1/root/x", "/proc/thread-self/cwd", "/proc/7/task/8/fd/9/x"];
    assert_eq!(links.map(through), [0; 4]);
    assert_eq!(["/proc/sys", "/proc/self/fd", "/proc/fs/ns/x", "/srv/proc/1/root"].map(through), [1; 4]);
}

#[test]
fn a_trace_without_mounts_says_nothing_of_them() {
    assert_eq!(needed_mounts(&Trace::empty(), &mut Evidence::default()), None);
}
