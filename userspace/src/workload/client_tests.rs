//! Tests of what docker's answers are read as; a live daemon is not needed.

use std::collections::BTreeSet;

use super::*;
use crate::workload::answers::{GraphDriver, read_runtime_version, runtime_version};

/// `docker info` of Debian 12's docker 20.10, shortened.
const INFO: &str = r#"{"ID":"x","KernelVersion":"6.18.44","CgroupDriver":"cgroupfs","CgroupVersion":"1",
"Architecture":"x86_64","ServerVersion":"20.10.24+dfsg1","Runtimes":{"io.containerd.runc.v2":{"path":"runc"},
"shim":{"path":"io.containerd.runc.v2"},"kata":{"runtimeType":"io.containerd.kata.v2"},"runc":{"path":"runc"}},
"DefaultRuntime":"runc","RuncCommit":{"ID":"1.1.5"},
"SecurityOptions":["name=apparmor","name=seccomp,profile=default","name=cgroupns"],"Warnings":null}"#;

fn docker() -> Client {
    Client::local(EngineKind::Docker)
}

/// A client that does as this script says, in that directory.
fn client(directory: &std::path::Path, script: &str) -> Client {
    let words = ["sh", "-c", &format!("cd {}; {script}", directory.display()), "docker"];
    Client { command: words.map(str::to_owned).to_vec(), ..docker() }
}

#[test]
fn a_removal_that_a_signal_ended_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let client = |script: &str| client(directory.path(), script);
    client("mkdir once && kill -KILL $$; echo \"$@\" >done").remove("x").unwrap();
    let done = std::fs::read_to_string(directory.path().join("done")).unwrap();
    assert_eq!(done, "rm --force --volumes -- x\n");
    let error = client("kill -KILL $$").remove("x").unwrap_err().to_string();
    assert!(error.contains("signal: 9"), "what ended it is said: {error}");
}

#[test]
fn info_is_read() {
    let info = docker().read_info(INFO.as_bytes()).unwrap();
    assert_eq!(info.server_version, "20.10.24+dfsg1");
    assert_eq!((info.cgroup_driver.as_str(), info.cgroup_version.as_str()), ("cgroupfs", "1"));
    assert_eq!(info.security_modules(), BTreeSet::from(["apparmor".to_owned()]));
    assert_eq!(info.runtime_program("runc"), Some("runc"));
    assert_eq!(info.runtime_program("shim"), None);
    assert_eq!(info.runtime_program("kata"), None);
    assert_eq!(info.runtime_program("none"), None);
    assert!(matches!(docker().read_info(b"nonsense"), Err(EngineError::Answer { action: "info", .. })));
}

#[test]
fn info_without_a_daemon_is_no_info() {
    let info = docker()
        .read_info(br#"{"ServerVersion":"","Runtimes":null,"SecurityOptions":null,"ServerErrors":["x"]}"#);
    assert_eq!(info.unwrap().server_errors, ["x"]);
}

#[test]
fn a_runtime_says_its_version() {
    let runc = "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1\nspec: 1.0.2-dev\n";
    assert_eq!(read_runtime_version("runc", runc).as_deref(), Some("1.1.5+ds1"));
    assert_eq!(read_runtime_version("crun", "crun version 1.8.1\ncommit: x\n").as_deref(), Some("1.8.1"));
    assert_eq!(read_runtime_version("runc", "something else 2"), None);
    assert_eq!(read_runtime_version("runc", ""), None);
    assert_eq!(runtime_version("/nonexistent/runc"), None);
}

#[test]
fn errors_name_the_way_out() {
    let text = |message: &str| docker().classify("create", message.to_owned()).to_string();
    assert!(
        text("Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?")
            .contains("start it")
    );
    assert!(
        text("failed to connect to the docker API at unix:///x; check if the path is correct")
            .contains("start it")
    );
    assert!(
        text("Got permission denied while trying to connect to the Docker daemon socket at unix:///x")
            .contains("run as root")
    );
    assert_eq!(
        text("Error response from daemon: No such image: a\u{1b}[2J:latest"),
        "`docker create` failed: Error response from daemon: No such image: a\\x1b[2J:latest"
    );
    assert!(text("Cannot connect to Podman. Please verify your connection").contains("CONTAINER_HOST"));
    let docker = Client { command: vec!["/nonexistent/docker".to_owned()], ..docker() };
    let error = docker.info().unwrap_err().to_string();
    assert!(error.contains("`/nonexistent/docker` cannot be run") && error.contains("install"), "{error}");
}

#[test]
fn a_container_is_read() {
    let container: Container = docker().read(
        "inspect",
        br#"{"Id":"ab","Image":"sha256:1","State":{"Status":"exited","Pid":0,"ExitCode":137,"OOMKilled":true,"Error":""},
        "HostConfig":{"Runtime":"runc","Privileged":true},"Config":{"User":"1000"},"AppArmorProfile":""}"#,
    )
    .unwrap();
    assert_eq!((container.state.exit_code, container.config.user.as_str()), (137, "1000"));
    assert!(container.state.oom_killed && container.host_config.privileged);
    assert_eq!(container.start_failure(), None);
    let mut failed = container;
    failed.state.status = "created".to_owned();
    failed.state.error = "exec: \"/nope\": no such file".to_owned();
    assert_eq!(failed.start_failure(), Some("exec: \"/nope\": no such file"));
}

#[test]
fn only_an_id_is_an_id() {
    assert!(is_id(&"0a".repeat(32)));
    assert!(!is_id("") && !is_id("--help") && !is_id(&"0g".repeat(32)));
}

/// `podman info` of Debian 12's podman 4.3.1, shortened.
const PODMAN_INFO: &str = r#"{"host":{"arch":"amd64","cgroupManager":"systemd","cgroupVersion":"v2","kernel":"6.12.0",
"ociRuntime":{"name":"crun","path":"/usr/bin/crun","version":"crun version 1.8.1\ncommit: f8a0\nspec: 1.0.0"},
"serviceIsRemote":false,"security":{"apparmorEnabled":true,"capabilities":"CAP_CHOWN,CAP_KILL","rootless":true,
"seccompEnabled":true,"selinuxEnabled":false}},"store":{"graphDriverName":"overlay"},"version":{"Version":"4.3.1"}}"#;

#[test]
fn the_info_of_podman_is_read() {
    let podman = Client::local(EngineKind::Podman);
    let info = podman.read_info(PODMAN_INFO.as_bytes()).unwrap();
    assert_eq!((info.server_version.as_str(), info.driver.as_str()), ("4.3.1", "overlay"));
    assert_eq!((info.cgroup_driver.as_str(), info.cgroup_version.as_str()), ("systemd", "2"));
    assert_eq!(info.security_modules(), BTreeSet::from(["apparmor".to_owned()]));
    assert_eq!(info.default_capabilities, Some(BTreeSet::from([Capability::CHOWN, Capability::KILL])));
    assert_eq!(info.runtime_program("crun"), Some("/usr/bin/crun"));
    assert_eq!(info.runtime_version("crun").as_deref(), Some("1.8.1"));
    assert!(info.rootless && !info.remote);
    // A `docker` that is podman answers so.
    assert!(docker().read_info(PODMAN_INFO.as_bytes()).unwrap().server_version.is_empty());
    assert!(matches!(podman.read_info(b"{}"), Err(EngineError::Answer { engine: EngineKind::Podman, .. })));
}

#[test]
fn a_container_of_podman_is_read() {
    let container: Container = Client::local(EngineKind::Podman)
        .read(
            "inspect",
            br#"{"Id":"ab","Image":"3e1f","OCIRuntime":"crun","State":{"Status":"created","Pid":0,"ExitCode":0,
            "OOMKilled":false,"Error":""},"HostConfig":{"Runtime":"oci","Privileged":true},"Config":{"User":""},
            "GraphDriver":{"Name":"overlay","Data":{"LowerDir":"/a/diff:/b/diff","UpperDir":"/c/diff"}}}"#,
        )
        .unwrap();
    assert_eq!(container.runtime(), "crun");
    let layers = container.graph_driver.as_ref().map(GraphDriver::layers).unwrap();
    assert_eq!(layers, ["/a/diff", "/b/diff"]);
}

#[test]
fn an_image_has_one_name_for_every_engine() {
    let image = |text: &str| docker().read::<Image>("inspect", text.as_bytes()).unwrap();
    let bare = image(r#"{"Id":"3e1f","RepoDigests":null,"Config":{"User":"www"}}"#);
    assert_eq!((bare.digest().as_str(), bare.user()), ("sha256:3e1f", Some("www")));
    let known = image(r#"{"Id":"sha256:3e1f","RepoDigests":["b@sha256:2","a@sha256:1"],"Config":{}}"#);
    assert_eq!((known.digest().as_str(), known.user()), ("a@sha256:1", None));
}
