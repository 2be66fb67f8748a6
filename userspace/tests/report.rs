//! What people read: the table, the warnings and the explanations of recorded runs, byte for byte.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeSet, fs, path::Path};

use unpriv::{
    capability::Capability,
    document::{self, Document},
    profile::{Profile, Warning, derive},
    report::{Before, Host, Style, explain, table, warnings},
    trace::Trace,
    workload::run_line::RunLine,
};

/// Compares with `tests/golden/NAME`; with `UNPRIV_BLESS=1` in the environment writes it instead.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UNPRIV_BLESS").is_some() {
        return fs::write(path, text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "{}", path.display());
}

/// A recorded run: `mount` is a plain command, `docker-loop-tun` a container.
fn trace(name: &str) -> Trace {
    let file = format!("tests/fixtures/{name}.trace.json");
    document::read_trace(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

fn host() -> Host {
    Host {
        capabilities: Capability::all().collect(),
        security_modules: BTreeSet::from(["apparmor".to_owned()]),
        default_capabilities: None,
    }
}

/// The container's own line, or another.
fn line(trace: &Trace, options: Option<&str>) -> RunLine {
    let recorded = RunLine::parse(&trace.runs.first().unwrap().command).unwrap();
    let Some(options) = options else { return recorded };
    let words: Vec<String> =
        ["docker", "run"].into_iter().chain(options.split(' ')).map(str::to_owned).collect();
    RunLine::parse(&[words, vec![recorded.image]].concat()).unwrap()
}

fn everything(document: &Document, style: Style) -> String {
    explain(document, None, style).unwrap()
}

#[test]
fn a_container_that_had_everything_is_this_table() {
    let trace = trace("docker-loop-tun");
    let profile = derive(&trace);
    let privileged = Before::container(&line(&trace, Some("--privileged")), &host());
    let tight =
        Before::container(&line(&trace, Some("--cap-drop=ALL --security-opt apparmor=unconfined")), &host());
    for width in [80, 120] {
        let shown = table(&profile, &privileged, Some(&tight), Style::plain(width));
        golden(&format!("report-table-privileged-{width}.txt"), &shown);
    }
    let explicit = Before::container(&line(&trace, None), &Host::default());
    golden("report-table-explicit.txt", &table(&profile, &explicit, None, Style::plain(80)));
}

#[test]
fn a_plain_command_is_this_table() {
    let profile = derive(&trace("mount"));
    let root = Before::command(Capability::all().collect());
    for width in [48, 80] {
        golden(
            &format!("report-table-command-{width}.txt"),
            &table(&profile, &root, None, Style::plain(width)),
        );
    }
}

#[test]
fn bold_changes_nothing_but_escape_sequences() {
    let profile = derive(&trace("docker-loop-tun"));
    let before = Before::command(Capability::all().collect());
    let bold = table(&profile, &before, None, Style { width: 80, bold: true });
    let plain = table(&profile, &before, None, Style::plain(80));
    assert_ne!(bold, plain);
    assert_eq!(bold.replace("\x1b[1m", "").replace("\x1b[0m", ""), plain);
}

#[test]
fn an_incomplete_recording_says_so_below_the_answer() {
    let mut profile = derive(&Trace::empty());
    profile.complete = false;
    let text = table(&profile, &Before::command(BTreeSet::new()), None, Style::plain(80));
    let second = text.lines().nth(1).unwrap();
    assert_eq!(second, "the recording is incomplete: a grant may be missing");
}

#[test]
fn a_trace_and_its_profile_are_explained_as_this() {
    for name in ["mount", "docker-loop-tun", "docker-mounts"] {
        let trace = trace(name);
        let profile = derive(&trace);
        let trace = Document::Trace(Box::new(trace));
        golden(&format!("report-explain-{name}-trace.txt"), &everything(&trace, Style::plain(80)));
        let profile = Document::Profile(Box::new(profile));
        golden(&format!("report-explain-{name}-profile.txt"), &everything(&profile, Style::plain(80)));
    }
}

#[test]
fn single_grants_are_explained_as_this() {
    let trace = Document::Trace(Box::new(trace("docker-loop-tun")));
    let mut text = String::new();
    for grant in [
        "sys_admin",
        "CAP_DAC_OVERRIDE",
        "SYS_BOOT",
        "chown",
        "/dev/net/tun",
        "b 7:0",
        "10:237",
        "/dev/null",
        "/dev/fuse",
        "mount",
        "openat2",
        "exit",
        "bpf",
    ] {
        text.extend(["$ unpriv explain TRACE ", grant, "\n"]);
        text.push_str(&explain(&trace, Some(grant), Style::plain(80)).unwrap());
        text.push('\n');
    }
    golden("report-explain-grants.txt", &text);
    let unknown = explain(&trace, Some("sys_admn"), Style::plain(80)).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "`sys_admn` is no capability, device or system call: did you mean CAP_SYS_ADMIN?"
    );
}

#[test]
fn warnings_are_grouped_as_this() {
    let mut all = derive(&trace("docker-loop-tun")).warnings;
    all.extend([
        Warning::Incomplete("there were more files than the kernel map holds".to_owned()),
        Warning::Opportunistic {
            capability: Capability::SYS_ADMIN,
            reason: "memory accounting: counts only under strict overcommit".to_owned(),
        },
        Warning::FileUnread("/tmp/gone".to_owned()),
        Warning::Note("the system call 9999 has no name".to_owned()),
    ]);
    golden("report-warnings.txt", &warnings(&all, Style::plain(80)));
    assert_eq!(warnings(&BTreeSet::new(), Style::plain(80)), "");
}

/// Every text from the workload, replaced by what an attacker would choose.
fn hostile(text: &str) -> (Trace, Profile) {
    const NAME: &str = r"/x/\u001b]0;owned\u0007\u001b[2J\nneeds none\r\u202egnp.\u200b\u0000";
    let mut trace = text.to_owned();
    for name in ["/usr/bin/mount", "/usr/sbin/ip", "/dev/net/tun", "tuntap", "path_mount", "\"brk"] {
        let quote = if name.starts_with('"') { "\"" } else { "" };
        trace = trace.replace(name, &format!("{quote}{NAME}"));
    }
    let trace: Trace = serde_json::from_str(&trace).unwrap();
    let mut profile = derive(&trace);
    for warning in [Warning::Incomplete, Warning::FileUnread, Warning::ReadsCapabilities, Warning::Note] {
        profile.warnings.insert(warning("\x1b[2J\n\u{202e}".to_owned()));
    }
    profile.paths.write.insert("/proc/\x1b[2J\n\u{202e}".to_owned());
    (trace, profile)
}

#[test]
fn a_hostile_workload_cannot_reach_the_terminal() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/docker-loop-tun.trace.json");
    let (trace, profile) = hostile(&fs::read_to_string(file).unwrap());
    let before = Before::container(
        &RunLine::parse(&["docker", "run", "--security-opt", "seccomp=\x1b[2J\n", "i"].map(str::to_owned))
            .unwrap(),
        &host(),
    );
    for width in [40, 80, 200] {
        let style = Style::plain(width);
        let mut texts =
            vec![table(&profile, &before, Some(&before), style), warnings(&profile.warnings, style)];
        texts.extend(profile.warnings.iter().map(ToString::to_string));
        for document in
            [Document::Trace(Box::new(trace.clone())), Document::Profile(Box::new(profile.clone()))]
        {
            texts.push(everything(&document, style));
            for grant in ["sys_admin", "net_admin", "/dev/\x1b[2J\n\u{202e}", "c 10:200", "mount"] {
                texts.push(explain(&document, Some(grant), style).unwrap());
            }
            texts.push(explain(&document, Some("\x1b[2J\u{202e}"), style).unwrap_err().to_string());
        }
        for text in texts {
            let bad = |c: char| {
                c != '\n' && c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
            };
            assert!(!text.contains(bad), "{text:?}");
            assert!(!text.lines().any(|line| line.starts_with("needs none")), "{text}");
        }
    }
}
