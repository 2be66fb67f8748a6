//! For people: what was granted before, what is needed, and why. Text only; nothing here does I/O.

mod before;
mod checks;
mod explain;
mod grant;
mod table;
mod text;
mod verdict;
mod warnings;

pub use self::{
    before::{Before, Devices, Host, KernelPaths},
    explain::explain,
    grant::UnknownGrant,
    table::table,
    text::Style,
    verdict::verdict,
    warnings::warnings,
};
