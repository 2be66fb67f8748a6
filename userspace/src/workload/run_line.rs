//! The user's own `docker run` or `podman run` line: parsed, asked about, and printed again as it was.

use super::{
    engine::EngineKind,
    refusals,
    run_options::{self, Known, ParseError, RunOption},
};

/// `docker [GLOBAL OPTIONS] run [OPTIONS] IMAGE [COMMAND] [ARG...]`, every argument kept as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunLine {
    /// Whose line it is.
    pub engine: EngineKind,
    /// `docker`, or a path to it.
    pub program: String,
    /// Options before the command, such as `-H` and `--context`.
    pub global: Vec<RunOption>,
    /// `run` or `container run`.
    pub subcommand: Vec<String>,
    /// Options of the run.
    pub options: Vec<RunOption>,
    /// `--` stands between the options and the image.
    pub options_ended: bool,
    /// Image reference.
    pub image: String,
    /// The container's command and its arguments; empty is the image's own.
    pub command: Vec<String>,
}

impl RunLine {
    /// Reads an argument vector, the program first.
    ///
    /// # Errors
    /// When it is not a `run` that this build understands to its end.
    pub fn parse(arguments: &[String]) -> Result<Self, ParseError> {
        let engine = arguments.first().and_then(|program| EngineKind::of(program));
        let (Some(engine), Some((program, rest))) = (engine, arguments.split_first()) else {
            return Err(ParseError::NotEngine(arguments.first().cloned().unwrap_or_default()));
        };
        if let Some(index) = arguments.iter().position(|argument| argument.contains('\0')) {
            return Err(ParseError::Nul(index));
        }
        let known = Known { engine, command: engine.name(), tables: engine.global_options() };
        let (global, used) = run_options::parse(&known, rest)?;
        let rest = &rest[used..];
        let words = match rest {
            [run, ..] if run == "run" => 1,
            [container, run, ..] if container == "container" && run == "run" => 2,
            _ => return Err(ParseError::NotRun { engine, words: rest[..rest.len().min(2)].join(" ") }),
        };
        let (subcommand, rest) = rest.split_at(words);
        let known = Known { engine, command: engine.run(), tables: engine.run_options() };
        let (options, used) = run_options::parse(&known, rest)?;
        if global
            .iter()
            .chain(&options)
            .any(|option| matches!(option.name, "help" | "version") && option.is_on())
        {
            return Err(ParseError::Help);
        }
        let rest = &rest[used..];
        let options_ended = rest.first().is_some_and(|argument| argument == "--");
        let rest = &rest[usize::from(options_ended)..];
        let (image, command) = rest.split_first().ok_or(ParseError::NoImage(engine))?;
        let run = Self {
            engine,
            program: program.clone(),
            global,
            subcommand: subcommand.to_vec(),
            options,
            options_ended,
            image: image.clone(),
            command: command.to_vec(),
        };
        match refusals::unsupported(&run) {
            Some((option, why)) => Err(ParseError::Unsupported { option, why }),
            None => Ok(run),
        }
    }

    /// The whole argument vector; of a parsed line, the one that was parsed.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = self.beginning();
        arguments.extend(run_options::print(&self.options));
        arguments.extend(self.image_and_command());
        arguments
    }

    /// What stands before the options of the run.
    #[must_use]
    pub fn beginning(&self) -> Vec<String> {
        let mut arguments = vec![self.program.clone()];
        arguments.extend(run_options::print(&self.global));
        arguments.extend(self.subcommand.iter().cloned());
        arguments
    }

    /// The program and its global options, wherever they stand: what every other command about this
    /// container starts with.
    #[must_use]
    pub fn engine_command(&self) -> Vec<String> {
        let mut arguments = vec![self.program.clone()];
        let everywhere = self.options.iter().filter(|option| self.engine.is_everywhere(option.name));
        arguments.extend(run_options::print(self.global.iter().chain(everywhere)));
        arguments
    }

    /// The options as lines of one option each; short options of one argument stay together.
    #[must_use]
    pub fn option_lines(&self) -> Vec<Vec<String>> {
        self.options.chunk_by(RunOption::shares_argument_with).map(run_options::print).collect()
    }

    /// What follows the options: `--` if it was there, the image and the command.
    #[must_use]
    pub fn image_and_command(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.options_ended {
            arguments.push("--".to_owned());
        }
        arguments.push(self.image.clone());
        arguments.extend(self.command.iter().cloned());
        arguments
    }

    /// The same line as `docker create`: nothing runs until [`Self::start_arguments`].
    #[must_use]
    pub fn create_arguments(&self) -> Vec<String> {
        let mut arguments = self.engine_command();
        let (_, parents) = self.subcommand.split_last().unwrap_or((&self.image, &[]));
        arguments.extend(parents.iter().cloned());
        arguments.push("create".to_owned());
        let kept = self.options.iter().filter(|option| {
            !self.engine.run_only().contains(&option.name) && !self.engine.is_everywhere(option.name)
        });
        arguments.extend(run_options::print(kept));
        arguments.extend(self.image_and_command());
        arguments
    }

    /// `docker start` of the container that [`Self::create_arguments`] made, attached: one that the line
    /// detaches is followed to its end all the same.
    #[must_use]
    pub fn start_arguments(&self, id: &str) -> Vec<String> {
        let mut arguments = self.engine_command();
        arguments.extend(["start".to_owned(), "--attach".to_owned()]);
        if !self.detached() && self.attaches_stdin() {
            arguments.push("--interactive".to_owned());
        }
        if let Some(keys) = self.value("detach-keys") {
            arguments.push(format!("--detach-keys={keys}"));
        }
        arguments.push(id.to_owned());
        arguments
    }

    /// The last value of an option, by its long name; an empty one is as good as none.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name).last().filter(|value| !value.is_empty())
    }

    /// Every value of an option, by its long name, in order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.options.iter().filter(move |option| option.name == name).map(|option| option.value.as_str())
    }

    /// Every element of an option that may be given as a list, in order: `--cap-add=A,B` where the engine
    /// takes that.
    pub fn elements(&self, name: &str) -> impl Iterator<Item = &str> {
        let list = self.engine.takes_list(name);
        self.values(name).flat_map(move |value| value.split(move |letter| list && letter == ','))
    }

    /// Whether a boolean option is on: the last one counts.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.options.iter().rfind(|option| option.name == name).is_some_and(RunOption::is_on)
    }

    /// `--privileged`.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        self.is_on("privileged")
    }

    /// `-d`.
    #[must_use]
    pub fn detached(&self) -> bool {
        self.is_on("detach")
    }

    /// `-t`.
    #[must_use]
    pub fn tty(&self) -> bool {
        self.is_on("tty")
    }

    /// `-i`.
    #[must_use]
    pub fn interactive(&self) -> bool {
        self.is_on("interactive")
    }

    /// `--rm`.
    #[must_use]
    pub fn auto_remove(&self) -> bool {
        self.is_on("rm")
    }

    /// `--cidfile`: docker refuses to run when the file exists.
    #[must_use]
    pub fn cidfile(&self) -> Option<&str> {
        self.value("cidfile")
    }

    /// `--name`: a second run needs the first container gone, or another name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.value("name")
    }

    /// `--user`; `None` is the image's own.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.value("user")
    }

    /// Whether the container uses the host's namespace of a kind: `network`, `pid`, `ipc`, `uts`, `userns`
    /// or `cgroupns`.
    #[must_use]
    pub fn shares_host(&self, namespace: &str) -> bool {
        let is_host = |value: &str| {
            // The long form of `--network`: `name=host,alias=…`.
            value == "host" || namespace == "network" && value.split(',').any(|field| field == "name=host")
        };
        self.value(namespace).is_some_and(is_host)
    }

    /// Bind mounts of the line: path on the host, path in the container; both cleaned.
    #[must_use]
    pub fn binds(&self) -> Vec<(String, String)> {
        let volumes = self.values("volume").filter_map(|value| {
            let mut parts = value.split(':');
            Some((parts.next()?, parts.next()?))
        });
        let mounts = self.values("mount").filter_map(bind_of_mount);
        let absolute = volumes.chain(mounts).filter(|(source, _)| source.starts_with('/'));
        absolute.map(|(source, target)| (clean(source), clean(target))).collect()
    }

    /// Whether the host's whole `/dev` is the container's.
    #[must_use]
    pub fn mounts_dev(&self) -> bool {
        self.binds().iter().any(|(source, target)| source == "/dev" && target == "/dev")
    }

    fn attaches_stdin(&self) -> bool {
        self.interactive() || self.elements("attach").any(|stream| stream.eq_ignore_ascii_case("stdin"))
    }
}

/// Source and target of a `--mount type=bind,…`.
fn bind_of_mount(value: &str) -> Option<(&str, &str)> {
    let field = |names: &[&str]| {
        value.split(',').find_map(|field| {
            let (key, value) = field.trim_matches('"').split_once('=')?;
            names.contains(&key.to_ascii_lowercase().as_str()).then_some(value)
        })
    };
    (field(&["type"])? == "bind").then_some(())?;
    Some((field(&["source", "src"])?, field(&["target", "dst", "destination"])?))
}

/// Go's `path.Clean` for an absolute path.
#[must_use]
pub fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
#[path = "run_line_tests.rs"]
mod tests;
