//! Whichever of the kernel's hooks record a run, the profile is the same.

use anyhow::{Context as _, Result, ensure};
use e2e::cli::Cli;
use serde_json::Value;

const SETS: [&str; 4] = ["tp_btf", "tracepoint", "fentry", "kprobe"];

/// What asks for something, each in another way; and what it needs.
const COMMANDS: [(&str, &[&str]); 8] = [
    ("unshare --mount mount -t tmpfs none /mnt", &["CAP_SYS_ADMIN"]),
    ("touch file; chown 5:5 file; chmod 600 file; chown 0:0 file", &["CAP_CHOWN", "CAP_FOWNER"]),
    ("mknod node c 1 7", &["CAP_MKNOD"]),
    ("echo full >/dev/full || : </dev/zero", &[]),
    ("perl -e 'socket(my $raw, 2, 3, 1) or die'", &["CAP_NET_RAW"]),
    // One of another user, which root alone reads.
    ("touch other; chown 5:5 other; chmod 600 other; cat other", &["CAP_DAC_READ_SEARCH"]),
    // PR_SET_SECUREBITS as they are: asked where compilers may hide the check from a hook.
    ("perl -e 'syscall(157, 28, syscall(157, 27)) == 0 or die'", &["CAP_SETPCAP"]),
    ("cat /proc/timer_list >/dev/null; echo 0 >/proc/self/oom_score_adj; nice -n -1 true", &["CAP_SYS_NICE"]),
];

/// A profile without how often things happened, which is chance.
fn without_counts(profile: &mut Value) {
    match profile {
        Value::Object(fields) => {
            fields.remove("count");
            fields.values_mut().for_each(without_counts);
        }
        Value::Array(elements) => elements.iter_mut().for_each(without_counts),
        _ => {}
    }
}

/// The profile of a command as these hooks see it; or why this kernel does not allow them.
fn profile(set: &str, command: &str) -> Result<Result<Value, String>> {
    // Nothing of one run may be there for the next.
    let cli = Cli::new()?;
    let record = ["record", "--failures", "--hooks", set, "-o", "trace.json"];
    let said = cli.with_command(&record, &["sh", "-c", command])?;
    if said.status.code() == Some(4) {
        return Ok(Err(said.stderr));
    }
    if set == "tp_btf" && said.status.code() == Some(3) {
        ensure!(said.stderr.contains("the kernel skipped the probe"), "{said:#?}");
        return Ok(Err("preempted programs are skipped on this kernel".to_owned()));
    }
    said.expect(0, &[])?;
    cli.run(["derive", "trace.json", "-o", "profile.json"])?.expect(0, &[])?;
    let mut profile = cli.json("profile.json")?;
    without_counts(&mut profile);
    Ok(Ok(profile))
}

#[test]
fn every_set_of_hooks_gives_the_same_profile() -> Result<()> {
    let mut sets = Vec::new();
    for set in SETS {
        match profile(set, "true")? {
            Ok(_) => sets.push(set),
            Err(reason) => println!("{set}: not here: {}", reason.trim()),
        }
    }
    ensure!(!sets.is_empty(), "no set of hooks works here");
    if sets.len() < 2 {
        println!(
            "skipped: {sets:?} is the only set of hooks that this kernel allows, so there is none to compare"
        );
    }
    for (command, needs) in COMMANDS {
        let mut first: Option<(&str, Value)> = None;
        for &set in &sets {
            let Ok(profile) = profile(set, command)? else { continue };
            let capabilities = profile["capabilities"].as_array().context("no capabilities")?;
            for need in needs {
                ensure!(capabilities.contains(&Value::from(*need)), "{set}: {command}: no {need}: {profile}");
            }
            match &first {
                None => first = Some((set, profile)),
                Some((other, same)) => {
                    ensure!(*same == profile, "{command}\n{other}: {same}\n{set}: {profile}");
                }
            }
        }
    }
    println!("{} commands by each of {sets:?}", COMMANDS.len());
    Ok(())
}

#[test]
fn the_trace_names_the_hooks_that_were_live() -> Result<()> {
    let cli = Cli::new()?;
    cli.with_command(&["record", "-o", "trace.json"], &["true"])?.expect(0, &[])?;
    let trace = cli.json("trace.json")?;
    let probes = trace["runs"][0]["probes"].to_string();
    for fact in ["cap_capable", "sys_enter", "cgroup_attach_task"] {
        ensure!(probes.contains(fact), "{fact}: {probes}");
    }
    ensure!(probes.contains("cgroup/device") || probes.contains("devcgroup_check_permission"), "{probes}");
    ensure!(!probes.contains("sys_exit"), "{probes}");
    Ok(())
}

#[test]
fn nothing_is_skipped_while_tasks_preempt_each_other() -> Result<()> {
    let cli = Cli::new()?;
    // More processes than processors; each makes calls, opens files and forks.
    let script = "for my $p (1..4) { unless (fork) { for my $r (1..8) { unless (fork) {
        for (1..100) { syscall(110); open(my $f, '<', '/dev/null'); open(my $g, '>', '/proc/self/oom_score_adj') }
        exec('/bin/true') if $r % 3 == 0; syscall(231, 0) } } 1 while wait != -1; syscall(231, 0) } }
        1 while wait != -1;";
    for _ in 0..3 {
        let record = ["record", "--failures", "-o", "trace.json"];
        cli.with_command(&record, &["perl", "-e", script])?.expect(0, &[])?;
        let trace = cli.json("trace.json")?;
        let count = trace["syscalls"]["x86_64"]["getppid"]["count"].as_u64();
        ensure!(count == Some(4 * 8 * 100), "{count:?}");
    }
    Ok(())
}
