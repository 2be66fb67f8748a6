//! The figures for people.

use std::fmt::Write as _;

use super::Figures;

/// Added cost as a multiple of the empty program's.
const TARGET_RECORDED: f64 = 1.25;
const TARGET_ANOTHER: f64 = 1.10;
const TARGET_ARMING_MILLISECONDS: f64 = 300.0;
const TARGET_MEMORY_MEGABYTES: f64 = 40.0;

pub(super) fn render(figures: &Figures) -> String {
    let mut text = format!(
        "{:<44}{:>9}{:>9}{:>10}\n",
        format!("one getppid, best of {} rounds", figures.rounds),
        "ns",
        "added",
        "of empty"
    );
    let mut row = |name: &str, cost: f64, target: Option<f64>| {
        let added = cost - figures.untraced;
        let ratio = added / (figures.empty_program - figures.untraced);
        // Writing to a string cannot fail.
        write!(text, "{name:<44}{cost:>9.0}{added:>9.0}{ratio:>10.2}").ok();
        if let Some(target) = target {
            write!(text, "  (at most {target:.2}: {})", verdict(ratio <= target)).ok();
        }
        text.push('\n');
    };
    row("untraced", figures.untraced, None);
    row("an empty BPF program on sys_enter", figures.empty_program, None);
    row("recorded", figures.recorded, Some(TARGET_RECORDED));
    row("another workload recorded", figures.another_recorded, Some(TARGET_ANOTHER));
    row("recorded, with failures", figures.recorded_with_failures, None);
    row("another workload recorded, with failures", figures.another_recorded_with_failures, None);
    if let Some(strace) = figures.strace {
        row("strace -f", strace, None);
    } else {
        text.push_str("strace -f: not measured, strace is not installed\n");
    }
    let mut line = |name: &str, value: f64, target: f64, unit: &str| {
        writeln!(text, "{name:<44}{value:>9.0} {unit}  (less than {target:.0}: {})", verdict(value < target))
            .ok();
    };
    line("arming", figures.arming_milliseconds, TARGET_ARMING_MILLISECONDS, "ms");
    line("peak memory of the recorder", figures.peak_memory_megabytes, TARGET_MEMORY_MEGABYTES, "MB");
    text
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
