//! Capabilities by number and name, and sets of them.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Names by number, `include/uapi/linux/capability.h`. New ones are appended there, never moved.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// One capability, by its number in `capabilities(7)`. Written and read as `CAP_NAME`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Capability(u8);

macro_rules! capabilities {
    ($($name:ident = $number:literal),+ $(,)?) => {
        impl Capability {
            $(#[doc = concat!("`CAP_", stringify!($name), "`.")] pub const $name: Self = Self($number);)+
        }
    };
}
capabilities!(
    CHOWN = 0,
    DAC_OVERRIDE = 1,
    DAC_READ_SEARCH = 2,
    FOWNER = 3,
    FSETID = 4,
    KILL = 5,
    SETGID = 6,
    SETUID = 7,
    SETPCAP = 8,
    LINUX_IMMUTABLE = 9,
    NET_BIND_SERVICE = 10,
    NET_BROADCAST = 11,
    NET_ADMIN = 12,
    NET_RAW = 13,
    IPC_LOCK = 14,
    IPC_OWNER = 15,
    SYS_MODULE = 16,
    SYS_RAWIO = 17,
    SYS_CHROOT = 18,
    SYS_PTRACE = 19,
    SYS_PACCT = 20,
    SYS_ADMIN = 21,
    SYS_BOOT = 22,
    SYS_NICE = 23,
    SYS_RESOURCE = 24,
    SYS_TIME = 25,
    SYS_TTY_CONFIG = 26,
    MKNOD = 27,
    LEASE = 28,
    AUDIT_WRITE = 29,
    AUDIT_CONTROL = 30,
    SETFCAP = 31,
    MAC_OVERRIDE = 32,
    MAC_ADMIN = 33,
    SYSLOG = 34,
    WAKE_ALARM = 35,
    BLOCK_SUSPEND = 36,
    AUDIT_READ = 37,
    PERFMON = 38,
    BPF = 39,
    CHECKPOINT_RESTORE = 40,
);

impl Capability {
    /// Those of Linux 5.8 and 5.9. Builds of docker even of one version differ in whether they have names for them.
    pub const RECENT: [Self; 3] = [Self::PERFMON, Self::BPF, Self::CHECKPOINT_RESTORE];

    /// The capability of that number, when this build has a name for it.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        (usize::from(number) < NAMES.len()).then_some(Self(number))
    }

    /// Its number, 0 to 40.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// `CAP_SYS_ADMIN` and so on.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// The name without `CAP_`, as docker and podman take it.
    #[must_use]
    pub fn short_name(self) -> &'static str {
        &self.name()["CAP_".len()..]
    }

    /// Every capability this build knows, in order of number.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).map_while(Self::from_number)
    }

    /// The capabilities that this process can hand on.
    #[must_use]
    pub fn in_bounding_set() -> BTreeSet<Self> {
        let held = |capability: &Self| {
            let bit = rustix::thread::CapabilitySet::from_bits_retain(capability.bit());
            rustix::thread::capability_is_in_bounding_set(bit).unwrap_or(false)
        };
        Self::all().filter(held).collect()
    }

    /// The capabilities whose bits are set in `bits`; bits without a name are left out.
    #[must_use]
    pub fn from_bits(bits: u64) -> BTreeSet<Self> {
        Self::all().filter(|capability| bits & capability.bit() != 0).collect()
    }

    /// Its bit in a kernel capability set.
    #[must_use]
    pub fn bit(self) -> u64 {
        1 << self.0
    }

    /// The bits of a set.
    #[must_use]
    pub fn to_bits(set: &BTreeSet<Self>) -> u64 {
        set.iter().fold(0, |bits, capability| bits | capability.bit())
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no capability.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a capability (capabilities(7) lists them, such as CAP_NET_ADMIN)")]
pub struct UnknownCapability(String);

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// Any case, with or without `CAP_`.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        Self::all()
            .find(|capability| capability.short_name() == short)
            .ok_or_else(|| UnknownCapability(name.to_owned()))
    }
}

impl TryFrom<String> for Capability {
    type Error = UnknownCapability;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> Self {
        capability.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_round_trip() {
        for capability in Capability::all() {
            assert_eq!(capability.name().parse::<Capability>().unwrap(), capability);
            assert_eq!(capability.short_name().to_lowercase().parse::<Capability>().unwrap(), capability);
        }
        assert_eq!(Capability::all().count(), 41);
        assert_eq!(Capability::CHECKPOINT_RESTORE.name(), "CAP_CHECKPOINT_RESTORE");
    }

    #[test]
    fn bits_round_trip_and_ignore_what_has_no_name() {
        let all: BTreeSet<_> = Capability::all().collect();
        assert_eq!(Capability::from_bits(u64::MAX), all);
        assert_eq!(Capability::to_bits(&all), (1 << 41) - 1);
    }
}
