//! Device accesses in the notation of the device cgroup.

use super::{Access, DeviceType};

impl Access {
    /// Both accesses.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            read: self.read || other.read,
            write: self.write || other.write,
            mknod: self.mknod || other.mknod,
        }
    }

    /// All of `self` is in `other`.
    #[must_use]
    pub fn within(self, other: Self) -> bool {
        self.union(other) == other
    }

    /// Neither r, w nor m.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (set, letter) in [(self.read, "r"), (self.write, "w"), (self.mknod, "m")] {
            if set {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// A device access that is not made of r, w and m.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a device access (one or more of r, w and m)")]
pub struct BadAccess(String);

impl TryFrom<String> for Access {
    type Error = BadAccess;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut access = Self::default();
        for letter in text.chars() {
            match letter {
                'r' => access.read = true,
                'w' => access.write = true,
                'm' => access.mknod = true,
                _ => return Err(BadAccess(text)),
            }
        }
        if access.is_empty() { Err(BadAccess(text)) } else { Ok(access) }
    }
}

impl From<Access> for String {
    fn from(access: Access) -> Self {
        access.to_string()
    }
}

impl DeviceType {
    /// `b` or `c`.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Block => 'b',
            Self::Character => 'c',
        }
    }
}
