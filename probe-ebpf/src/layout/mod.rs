//! Keys and values of the maps, by what they are about.

mod accesses;
mod capabilities;
mod mounts;
mod offsets;
mod programs;
pub mod status;
mod tasks;

pub use self::{accesses::*, capabilities::*, mounts::*, offsets::*, programs::*, tasks::*};
