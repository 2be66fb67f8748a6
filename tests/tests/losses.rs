//! Nothing that decides the profile is lost, at any rate; and what was not seen is said.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, ensure};
use e2e::cli::Cli;
use serde_json::Value;

/// The system calls of a trace, of the machine's own ABI.
fn syscalls(trace: &Value) -> BTreeSet<String> {
    let calls = trace["syscalls"]["x86_64"].as_object();
    calls.map(|calls| calls.keys().cloned().collect()).unwrap_or_default()
}

/// The capabilities that were granted to a program of the workload.
fn capabilities(trace: &Value) -> BTreeSet<String> {
    let checks = trace["capabilities"].as_array().map_or(&[][..], Vec::as_slice);
    let granted = checks.iter().map(|check| &check["fact"]).filter(|check| check["granted"] == true);
    granted.filter_map(|check| check["capability"].as_str().map(str::to_owned)).collect()
}

/// Records a command that has to be seen to its end.
fn complete(cli: &Cli, command: &[&str]) -> Result<Value> {
    cli.with_command(&["record", "-o", "trace.json"], command)?.expect(0, &[])?;
    cli.json("trace.json")
}

#[test]
fn more_programs_than_can_be_told_apart_cost_evidence_and_no_fact() -> Result<()> {
    let cli = Cli::new()?;
    cli.copy("/bin/true", "true-0")?;
    for number in 1..600 {
        fs::hard_link(cli.path("true-0"), cli.path(format!("true-{number}")))?;
    }
    cli.copy("/usr/sbin/chroot", "chroot-late")?;
    cli.copy("/bin/chown", "chown-late")?;
    // The last ones, beyond the table, alone ask for something.
    let script =
        "for program in ./true-*; do $program; done; ./chroot-late / ./true-0 || ./chroot-late / true
        touch file; ./chown-late 1:1 file";
    let trace = complete(&cli, &["sh", "-c", script])?;
    let programs = trace["programs"].as_object().context("no programs")?;
    ensure!(programs.len() > 500 && !programs.contains_key("./chroot-late"), "{}", programs.len());
    ensure!(syscalls(&trace).contains("chroot") && syscalls(&trace).contains("fchownat"));
    for capability in ["CAP_SYS_CHROOT", "CAP_CHOWN"] {
        ensure!(capabilities(&trace).contains(capability), "{capability}: {:?}", capabilities(&trace));
    }
    ensure!(programs["(other programs)"]["unread"] == true, "their file capabilities are not known");
    ensure!(cli.run(["derive", "trace.json"])?.expect(0, &[])?.stdout.contains("(other programs)"));
    Ok(())
}

#[test]
fn a_rare_call_in_a_storm_is_seen() -> Result<()> {
    let cli = Cli::new()?;
    // getppid (110) without end, and once getpgid (121), sched_get_priority_max (146) and chroot (161).
    let script = "fork; fork; syscall(110) for 1..100000; syscall(121, 0); syscall(110) for 1..100000;
        syscall(146, 0); my $root = '/'; syscall(161, $root); 1 while wait != -1";
    let trace = complete(&cli, &["perl", "-e", script])?;
    for name in ["getppid", "getpgid", "sched_get_priority_max", "chroot"] {
        ensure!(syscalls(&trace).contains(name), "{name}");
    }
    let count = trace["syscalls"]["x86_64"]["getppid"]["count"].as_u64();
    ensure!(count == Some(4 * 200_000), "{count:?}");
    Ok(())
}

#[test]
fn a_program_that_two_processors_first_start_at_once_loses_nothing() -> Result<()> {
    const PROGRAMS: u64 = 400;
    let cli = Cli::new()?;
    cli.copy("/usr/bin/nice", "nice-1")?;
    for number in 2..=PROGRAMS {
        fs::hard_link(cli.path("nice-1"), cli.path(format!("nice-{number}")))?;
    }
    // Two processes wait for the same moment, and are then the same new program, which asks for its priority.
    let script = "use Time::HiRes 'time'; open STDOUT, '>', '/dev/null'; for my $number (1..$ARGV[0]) {
        my $moment = time + 0.002;
        for (1, 2) { fork or do { 1 until time > $moment; exec \"./nice-$number\" } }
        1 while wait != -1 }";
    let trace = complete(&cli, &["perl", "-e", script, &PROGRAMS.to_string()])?;
    let used = &trace["syscalls"]["x86_64"]["getpriority"];
    ensure!(used["count"] == 2 * PROGRAMS, "{}", used["count"]);
    ensure!(used["programs"].as_array().map(Vec::len) == Some(400), "{}", used["programs"]);
    Ok(())
}

#[test]
fn short_lived_processes_are_all_seen() -> Result<()> {
    let cli = Cli::new()?;
    // 2,000 processes; each makes one call of its own of those that do nothing with these arguments.
    let numbers =
        "0..21,24..33,35,72..79,96..108,110,111,115,121,124,137..148,186,191..200,201,217,228,229,234";
    let script = format!(
        "my @calls = ({numbers}); for my $round (1 .. int(2000 / @calls)) {{ for my $call (@calls) {{
            unless (fork) {{ syscall($call, -1, 0, 0, 0); syscall(231, 0) }} wait }} }} print scalar @calls"
    );
    let trace = complete(&cli, &["perl", "-e", &script])?;
    let seen = syscalls(&trace);
    for name in [
        "msync",
        "madvise",
        "flock",
        "getpgid",
        "sched_rr_get_interval",
        "fgetxattr",
        "clock_getres",
        "tgkill",
    ] {
        ensure!(seen.contains(name), "{name} of {seen:?}");
    }
    let forks = trace["syscalls"]["x86_64"]["clone"]["count"].as_u64().unwrap_or_default();
    ensure!(forks > 1_900, "{forks}");
    Ok(())
}

#[test]
fn a_process_left_running_is_said_and_nothing_waits_for_it_for_ever() -> Result<()> {
    let cli = Cli::new()?;
    let script = "sleep 30 >&- 2>&- <&- & echo $! >pid";
    cli.with_command(&["record", "-o", "trace.json"], &["sh", "-c", script])?
        .expect(3, &["processes of the workload still ran"])?;
    let trace = cli.json("trace.json")?;
    ensure!(trace["lost"] == serde_json::json!(["still_running"]) && trace["complete"] == false, "{trace}");
    let pid = fs::read_to_string(cli.path("pid"))?;
    std::process::Command::new("kill").arg(pid.trim()).status()?;
    Ok(())
}

#[test]
fn daemons_and_threads_belong_to_the_workload() -> Result<()> {
    let cli = Cli::new()?;
    // A double fork into a session of its own; what comes last is asked for by the orphan.
    let script = "(setsid sh -c 'sleep 0.3; chroot / true; touch file; chown 1:1 file' >&- 2>&- <&- &) &";
    let trace = complete(&cli, &["sh", "-c", script])?;
    for capability in ["CAP_SYS_CHROOT", "CAP_CHOWN"] {
        ensure!(capabilities(&trace).contains(capability), "{capability}");
    }
    Ok(())
}
