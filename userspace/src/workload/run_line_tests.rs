//! Tests of the `docker run` parser.

use super::*;
use crate::workload::run_tables::{
    ALIASES, DOCKER_GLOBAL, DOCKER_RUN, PODMAN_EVERYWHERE, PODMAN_GLOBAL, PODMAN_RUN, RUN, Row,
};

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn parse(line: &str) -> RunLine {
    RunLine::parse(&words(line)).unwrap()
}

fn error(line: &str) -> ParseError {
    RunLine::parse(&words(line)).unwrap_err()
}

#[test]
fn options_end_at_the_image() {
    let run = parse(
        "/usr/bin/docker -H tcp://h:1 -l=debug --tls container run -it --rm --name x busybox --privileged -d",
    );
    assert_eq!(run.image, "busybox");
    assert_eq!(run.command, ["--privileged", "-d"]);
    assert!(!run.is_privileged() && !run.detached() && run.tty() && run.interactive() && run.auto_remove());
    assert_eq!(run.engine_command(), ["/usr/bin/docker", "-H", "tcp://h:1", "-l=debug", "--tls"]);
    assert_eq!(run.name(), Some("x"));
    let ended = parse("docker run --privileged -- busybox sh");
    assert!(ended.is_privileged() && ended.options_ended);
}

#[test]
fn values_are_read_as_docker_reads_them() {
    let run = parse(
        "docker run -e A=1 -eB=2 -e=C=3 -itv=/dev:/dev -p80:80 -h= x -u 0:0 --network=name=host,alias=a img",
    );
    assert_eq!(run.values("env").collect::<Vec<_>>(), ["A=1", "B=2", "C=3"]);
    assert_eq!(run.values("publish").collect::<Vec<_>>(), ["80:80"]);
    // pflag takes `-h=` for the value `=`.
    assert_eq!((run.value("hostname"), run.image.as_str()), (Some("="), "x"));
    let run = parse("docker run -e A=1 -itv=/dev:/dev -u 0:0 --network=name=host,alias=a --pid host img");
    assert!(run.tty() && run.interactive() && run.mounts_dev());
    assert_eq!(run.user(), Some("0:0"));
    assert!(run.shares_host("network") && run.shares_host("pid") && !run.shares_host("ipc"));
    assert!(parse("docker run --net host img").shares_host("network"));
}

#[test]
fn of_a_repeated_boolean_the_last_counts() {
    assert!(!parse("docker run --privileged --privileged=false i").is_privileged());
    assert!(parse("docker run --privileged=0 --privileged=T i").is_privileged());
    let run = parse("docker run -dt=false i");
    assert!(run.detached() && !run.tty());
    assert!(!parse("docker run -it=false i").tty());
}

#[test]
fn binds_of_dev_are_seen_however_they_are_written() {
    for line in [
        "docker run -v /dev:/dev i",
        "docker run --volume=/dev/:/dev/:ro i",
        "docker run --mount type=bind,source=/dev,target=/dev i",
        "docker run --mount=readonly,dst=/dev,src=/dev/.,type=bind i",
    ] {
        assert!(parse(line).mounts_dev(), "{line}");
    }
    for line in [
        "docker run -v /dev/snd:/dev/snd i",
        "docker run -v dev:/dev i",
        "docker run --mount source=/dev,target=/dev i",
    ] {
        assert!(!parse(line).mounts_dev(), "{line}");
    }
}

#[test]
fn create_is_the_same_line_without_what_only_run_has() {
    let create = |line| parse(line).create_arguments().join(" ");
    assert_eq!(create("docker run -itd --name=x i sh -d"), "docker create -it --name=x i sh -d");
    assert_eq!(create("docker run -d --privileged i"), "docker create --privileged i");
    assert_eq!(create("docker run -dit i"), "docker create -it i");
    assert_eq!(create("docker run -itd=false -- i"), "docker create -it -- i");
    assert_eq!(
        create("docker -c ctx container run -i -de A=b --sig-proxy=false --detach-keys ctrl-a i"),
        "docker -c ctx container create -i -e A=b i"
    );
}

#[test]
fn start_attaches_as_the_run_would() {
    let start = |line| parse(line).start_arguments("abc").join(" ");
    assert_eq!(start("docker -D run i"), "docker -D start --attach abc");
    assert_eq!(start("docker run -d i"), "docker start --attach abc");
    assert_eq!(
        start("docker run -it --detach-keys ctrl-a i"),
        "docker start --attach --interactive --detach-keys=ctrl-a abc"
    );
}

#[test]
fn what_cannot_be_understood_is_named() {
    let engine = EngineKind::Docker;
    let unknown =
        |option: &str, command| ParseError::UnknownOption { engine, option: option.to_owned(), command };
    assert_eq!(error("docker run --frobnicate=1 i"), unknown("--frobnicate", "docker run"));
    assert_eq!(error("docker run -iz i"), unknown("-z", "docker run"));
    assert_eq!(error("docker run ---x i"), unknown("---x", "docker run"));
    assert_eq!(error("docker run -t= i"), unknown("-=", "docker run"));
    assert_eq!(error("docker --privileged run i"), unknown("--privileged", "docker"));
    assert_eq!(error("docker run -it -v"), ParseError::MissingValue("-v".to_owned()));
    assert_eq!(error("docker run --name"), ParseError::MissingValue("--name".to_owned()));
    assert_eq!(error("docker run -it"), ParseError::NoImage(engine));
    assert_eq!(
        error("docker run --rm=maybe i"),
        ParseError::BadBoolean { option: "rm", value: "maybe".to_owned() }
    );
    assert_eq!(error("docker run --help"), ParseError::Help);
    assert_eq!(error("docker build ."), ParseError::NotRun { engine, words: "build .".to_owned() });
    assert_eq!(error("dockerd run i"), ParseError::NotEngine("dockerd".to_owned()));
    assert_eq!(RunLine::parse(&[]), Err(ParseError::NotEngine(String::new())));
    assert_eq!(error("docker run i a\0b"), ParseError::Nul(3));
    assert!(!error("docker run --\u{1b}[2J i").to_string().contains('\u{1b}'));
}

/// A small deterministic generator: the tests need variety, not randomness.
fn next(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap() % below
}

#[test]
fn printing_a_parsed_line_gives_that_line() {
    let docker = [DOCKER_GLOBAL.to_vec(), [RUN, DOCKER_RUN].concat()];
    let podman = [[PODMAN_GLOBAL, PODMAN_EVERYWHERE].concat(), [RUN, PODMAN_RUN, PODMAN_EVERYWHERE].concat()];
    for (engine, [global, run]) in [("docker", docker), ("podman", podman)] {
        print_parsed_lines(engine, &global, &run);
    }
}

fn print_parsed_lines(engine: &str, global: &[Row], of_run: &[Row]) {
    // Those of podman that are refused, with the values below.
    const REFUSED: [&str; 11] = [
        "connection",
        "host",
        "noout",
        "out",
        "passwd",
        "preserve-fd",
        "preserve-fds",
        "remote",
        "rmi",
        "rootfs",
        "url",
    ];
    let values = ["", "x", "-", "--", "-it", "a b", "=", "a=b", "\n", "--privileged", "\u{e9}"];
    let mut state = 1;
    for _ in 0..5000 {
        let mut line = vec![engine.to_owned()];
        for (table, subcommand) in [(global, Some("run")), (of_run, None)] {
            for _ in 0..next(&mut state, 6) {
                let (name, short, takes_value) = table[next(&mut state, table.len())];
                if matches!(name, "help" | "version") || engine == "podman" && REFUSED.contains(&name) {
                    continue;
                }
                let value = values[next(&mut state, values.len())].to_owned();
                match (short, takes_value, next(&mut state, 3)) {
                    (Some(short), true, 0) => line.extend([format!("-{short}"), value]),
                    (Some(short), true, 1) => line.push(format!("-{short}x{value}")),
                    (Some(short), false, 0 | 1) => line.push(format!("-{short}{short}{short}=false")),
                    (_, true, 2) => line.extend([format!("--{name}"), value]),
                    (_, true, _) => line.push(format!("--{name}={value}")),
                    (_, false, 2) => line.push(format!("--{name}=false")),
                    (_, false, _) => line.push(format!("--{name}")),
                }
            }
            line.extend(subcommand.map(str::to_owned));
        }
        if next(&mut state, 2) == 0 {
            line.push("--".to_owned());
        }
        line.push("image".to_owned());
        for _ in 0..next(&mut state, 3) {
            line.push(values[next(&mut state, values.len())].to_owned());
        }
        let run = RunLine::parse(&line).unwrap();
        assert_eq!(run.image, "image");
        assert_eq!(run.arguments(), line);
        assert_eq!(run.option_lines().concat(), run_options::print(&run.options));
        let create = run.create_arguments();
        let created = create.iter().map(|word| if word == "create" { "run" } else { word.as_str() });
        let again = RunLine::parse(&created.map(str::to_owned).collect::<Vec<_>>()).unwrap();
        assert_eq!((again.image, again.command), (run.image, run.command));
    }
}

#[test]
fn the_tables_are_sorted_and_their_letters_unique() {
    let docker = [vec![DOCKER_GLOBAL], vec![RUN, DOCKER_RUN]];
    let podman = [vec![PODMAN_GLOBAL, PODMAN_EVERYWHERE], vec![RUN, PODMAN_RUN, PODMAN_EVERYWHERE]];
    for tables in docker.into_iter().chain(podman) {
        assert!(tables.iter().all(|table| table.is_sorted_by(|one, other| one.0 < other.0)));
        let unique = |mut names: Vec<String>| {
            let all = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), all);
        };
        unique(tables.concat().iter().filter_map(|row| row.1).map(String::from).collect());
        unique(tables.concat().iter().map(|row| row.0.to_owned()).collect());
    }
    for (_, first) in ALIASES {
        assert!([RUN, DOCKER_RUN, PODMAN_RUN].iter().any(|table| table.iter().any(|row| row.0 == *first)));
    }
}

#[test]
fn podman_has_options_of_its_own_everywhere() {
    let run = parse(
        "/usr/bin/podman --log-level debug --root /r run --runtime=runc --replace --net host --tls-verify \
         --runroot /q --cap-add=A,CAP_B --sig-proxy=false --passwd -d i sh",
    );
    assert_eq!((run.engine, run.image.as_str()), (EngineKind::Podman, "i"));
    assert!(run.shares_host("network"));
    assert_eq!(run.elements("cap-add").collect::<Vec<_>>(), ["A", "CAP_B"]);
    // Where the container is, and how it is made, every command has to be told.
    let engine = "/usr/bin/podman --log-level debug --root /r --runtime=runc --runroot /q";
    assert_eq!(run.engine_command().join(" "), engine);
    assert_eq!(
        run.create_arguments().join(" "),
        format!("{engine} create --replace --net host --tls-verify --cap-add=A,CAP_B i sh")
    );
    assert_eq!(run.start_arguments("abc").join(" "), format!("{engine} start --attach abc"));
    assert_eq!(run.beginning().join(" "), "/usr/bin/podman --log-level debug --root /r run");
    // Docker has neither.
    assert!(matches!(error("docker run --replace i"), ParseError::UnknownOption { .. }));
    assert_eq!(parse("docker run --cap-add=A,B i").elements("cap-add").collect::<Vec<_>>(), ["A,B"]);
    let said = error("podman run --isolation=x i").to_string();
    assert!(said.contains("`podman run` (podman 4.3 to 5.8)"), "{said}");
}
