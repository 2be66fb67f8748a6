//! Who is recorded: a container engine's command line, and the engine behind it.

pub mod device_nodes;
pub mod docker;
pub mod docker_answers;
pub mod docker_cli;
pub mod docker_options;
