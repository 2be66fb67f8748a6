//! `AppArmor` profiles, byte for byte, and whether `apparmor_parser` takes them.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use unpriv::{
    capability::Capability,
    document,
    emit::apparmor::{AppArmorProfile, Loading},
    profile::{Profile, derive},
    syscalls::Abi,
    trace::{Facts, LsmAccess, MountCall, PathAccess, Refusal, Trace},
};

const FIXTURES: [&str; 3] = ["docker-loop-tun", "docker-mounts", "mount"];

/// Compares with `tests/golden/NAME`; with `UNPRIV_BLESS=1` in the environment writes it instead.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UNPRIV_BLESS").is_some() {
        return fs::write(path, text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "{}", path.display());
}

fn fixture(name: &str) -> Trace {
    let file = format!("tests/fixtures/{name}.trace.json");
    document::read_trace(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

fn text(profile: &Profile, loading: Loading) -> String {
    let generated = AppArmorProfile::new(profile, &profile.capabilities, "image");
    String::from_utf8(generated.text(loading)).unwrap()
}

/// Compiles a profile without loading it, with the features that its ABI names.
fn parses(text: &str) {
    let parser = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let parser = parser.expect("apparmor_parser is not installed: tests/setup.sh does it");
    let mut child = Command::new(parser)
        .args(["--skip-kernel-load", "--skip-cache", "--features-file=/etc/apparmor.d/abi/3.0"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
}

fn mount(flags: u64, fstype: &str, source: &str, target: &str) -> MountCall {
    MountCall {
        program: "/bin/mount".to_owned(),
        abi: Abi::X86_64,
        syscall: "mount".to_owned(),
        fstype: Some(fstype.to_owned()),
        source: Some(source.to_owned()),
        target: Some(target.to_owned()),
        partial: false,
        flags,
        errno: None,
    }
}

#[test]
fn the_profile_of_a_recording_is_these_bytes() {
    for name in FIXTURES {
        golden(&format!("apparmor-{name}.profile"), &text(&derive(&fixture(name)), Loading::Kept));
    }
}

#[test]
fn every_fixture_gives_a_profile_that_parses() {
    for name in FIXTURES {
        let profile = derive(&fixture(name));
        for loading in [Loading::Kept, Loading::Trial, Loading::Watched] {
            parses(&text(&profile, loading));
        }
    }
}

#[test]
fn every_capability_and_flag_of_mount_parses() {
    let mut trace = Trace::empty();
    let mut mounts = Facts::default();
    for bit in 0..26 {
        for flags in [0, 32, 1 << 14, 1 << 15] {
            mounts.add(mount(1 << bit | flags, "ext4", "/dev/vdb", "/mnt"), 1);
        }
    }
    mounts.add(MountCall { syscall: "move_mount".to_owned(), source: None, ..mount(0, "", "", "/") }, 1);
    for (source, target) in [(Some("/old"), Some("/new")), (None, Some("/new")), (None, None)] {
        let [source, target] = [source, target].map(|path| path.map(str::to_owned));
        mounts.add(MountCall { syscall: "pivot_root".to_owned(), source, target, ..mount(0, "", "", "") }, 1);
    }
    trace.mounts = Some(mounts);
    let mut profile = derive(&trace);
    profile.capabilities = Capability::all().collect();
    parses(&text(&profile, Loading::Kept));
}

#[test]
fn no_string_of_a_workload_breaks_out_of_its_rule() {
    const HOSTILE: [&str; 8] = [
        "\"",
        "/x\",\n  capability,\n  mount,\n  #",
        "/a{b,c}[d]*?^\\@{PROC}",
        "\u{0}",
        "/\u{1b}[2J\u{e9}\u{202e}",
        "",
        "/ , -> \"",
        "}",
    ];
    let mut trace = fixture("docker-mounts");
    let mut mounts = Facts::default();
    for (one, other) in HOSTILE.into_iter().zip(HOSTILE.into_iter().cycle().skip(3)) {
        mounts.add(mount(0, one, other, one), 1);
        mounts.add(mount(4096, one, other, one), 1);
        for (base, write) in [("/proc/sys/", true), ("/sys/", true), ("/sys/firmware/", false)] {
            let path = format!("{base}{one}");
            let access = PathAccess { path, write, foreign: false, program: other.to_owned() };
            trace.paths.get_or_insert_default().add(access, 1);
        }
        let text = one.to_owned();
        for access in [
            LsmAccess::Ptrace { mask: "trace".to_owned(), peer: text.clone() },
            LsmAccess::Signal { mask: "send".to_owned(), signal: "term".to_owned(), peer: text.clone() },
            LsmAccess::ChangeProfile(text.clone()),
            LsmAccess::File { path: format!("/sys/{one}"), mask: text.clone() },
            LsmAccess::Network { family: text.clone(), kind: text.clone() },
        ] {
            trace.refusals.add(Refusal { program: one.to_owned(), access, renamed: false, run: 1 }, 1);
        }
    }
    trace.mounts = Some(mounts);
    let profile = derive(&trace);
    let text = text(&profile, Loading::Kept);
    parses(&text);
    assert!(text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\n'));
    let lines: BTreeSet<&str> = text.lines().map(str::trim).collect();
    assert!(!lines.contains("capability,") && !lines.contains("mount,"), "{text}");
    assert_eq!(text.matches('}').count(), text.matches('{').count(), "{text}");
}

#[test]
fn a_profile_from_elsewhere_is_quoted_as_well() {
    let mut profile = derive(&fixture("docker-mounts"));
    let mounts = profile.mounts.take().unwrap();
    let hostile = |mut mount: unpriv::profile::Mount| {
        mount.fstype = mount.fstype.map(|kind| kind + "\",\n");
        mount.target = mount.target.map(|path| path + "\" {x},\n  mount,\n*");
        mount.options =
            mount.options.map(|options| options.into_iter().chain(["rw) x,\n".to_owned()]).collect());
        mount
    };
    profile.mounts = Some(mounts.into_iter().map(hostile).collect());
    let text = text(&profile, Loading::Kept);
    parses(&text);
    assert!(!text.lines().any(|line| line.trim() == "mount,"), "{text}");
}
