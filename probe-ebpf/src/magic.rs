//! `super_block.s_magic` of the kernel's own file systems (include/uapi/linux/magic.h).

/// proc.
pub const PROC: u32 = 0x9fa0;
/// sysfs.
pub const SYSFS: u32 = 0x6265_6572;
/// A cgroup v1 hierarchy.
pub const CGROUP: u32 = 0x0027_e0eb;
/// The unified cgroup hierarchy.
pub const CGROUP2: u32 = 0x6367_7270;
/// tracefs.
pub const TRACEFS: u32 = 0x7472_6163;
/// debugfs.
pub const DEBUGFS: u32 = 0x6462_6720;
/// bpffs.
pub const BPF: u32 = 0xcafe_4a11;
/// securityfs.
pub const SECURITYFS: u32 = 0x7363_6673;
/// selinuxfs.
pub const SELINUX: u32 = 0xf97c_ff8c;
/// fusectl.
pub const FUSECTL: u32 = 0x6573_5543;
/// configfs.
pub const CONFIGFS: u32 = 0x6265_6570;
/// `binfmt_misc`.
pub const BINFMT_MISC: u32 = 0x4249_4e4d;
/// All of them.
pub const ALL: [u32; 12] = [
    PROC,
    SYSFS,
    CGROUP,
    CGROUP2,
    TRACEFS,
    DEBUGFS,
    BPF,
    SECURITYFS,
    SELINUX,
    FUSECTL,
    CONFIGFS,
    BINFMT_MISC,
];
