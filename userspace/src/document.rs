//! Reading and writing traces and profiles.
use anyhow::Result;
use serde::Serialize;
use std::path::Path;
/// stub
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> { if path.as_os_str() == "-" { use std::io::Write as _; return Ok(std::io::stdout().write_all(bytes)?); } Ok(std::fs::write(path, bytes)?) }
/// stub
pub fn to_json<T: Serialize>(value: &T) -> Vec<u8> { let mut t = serde_json::to_vec_pretty(value).unwrap_or_default(); t.push(b'\n'); t }
/// stub
pub fn read_trace(path: &Path) -> Result<crate::trace::Trace> { Ok(serde_json::from_slice(&std::fs::read(path)?)?) }
/// stub
pub fn read_profile(path: &Path) -> Result<crate::profile::Profile> { Ok(serde_json::from_slice(&std::fs::read(path)?)?) }
/// stub
pub fn check_writable(_path: &Path) -> Result<()> { Ok(()) }
/// stub
pub fn write_executable(path: &Path, bytes: &[u8]) -> Result<()> { use std::os::unix::fs::PermissionsExt as _; std::fs::write(path, bytes)?; Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?) }
