//! Where the running kernel keeps what the programs read, from its BTF.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, bail};
use btf_rs::{Backend, Btf, BtfType as _, Struct, Type};
use probe_ebpf::Offsets;
use rustix::fs::MemfdFlags;

/// The running kernel's type information.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Reads every offset that the kernel side needs.
///
/// # Errors
///
/// When the kernel has no BTF, or lacks a field: the error names it.
pub(super) fn read(btf: &Btf) -> Result<Offsets> {
    let task = Structure::find(btf, "task_struct")?;
    let cred = Structure::find(btf, "cred")?;
    let regs = Structure::find(btf, "pt_regs")?;
    let node = Structure::find(btf, "kernfs_node")?;
    let user_ns = Structure::find(btf, "user_namespace")?;
    let nsproxy = Structure::find(btf, "nsproxy")?;
    let superblock = Structure::find(btf, "super_block")?;
    let file = Structure::find(btf, "file")?;
    let path = Structure::find(btf, "path")?;
    let entry = Structure::find(btf, "dentry")?;
    let css_set = Structure::find(btf, "css_set")?;
    let inode = Structure::find(btf, "inode")?;
    let mount = Structure::find(btf, "mount")?;
    let exec = Structure::find(btf, "trace_event_raw_sched_process_exec")?;
    // Only newer kernels have that event; a program for it is not loaded elsewhere.
    let event_capable = match Structure::find(btf, "trace_event_raw_cap_capable") {
        Ok(event) => {
            [event.field("cred")?, event.field("target_ns")?, event.field("cap")?, event.field("ret")?]
        }
        Err(_) => [0; 4],
    };
    Ok(Offsets {
        task_status: task.field("thread_info")? + Structure::find(btf, "thread_info")?.field("status")?,
        task_real_cred: task.field("real_cred")?,
        task_cred: task.field("cred")?,
        task_nsproxy: task.field("nsproxy")?,
        task_cgroups: task.field("cgroups")?,
        task_flags: task.field("flags")?,
        task_mm: task.field("mm")?,
        task_tgid: task.field("tgid")?,
        nsproxy_mnt_ns: nsproxy.field("mnt_ns")?,
        css_set_dfl_cgrp: css_set.field("dfl_cgrp")?,
        css_set_subsys: css_set.field("subsys")?,
        css_set_subsystems: css_set.length("subsys")?,
        css_cgroup: Structure::find(btf, "cgroup_subsys_state")?.field("cgroup")?,
        cgroup_kn: Structure::find(btf, "cgroup")?.field("kn")?,
        kernfs_node_name: node.field("name")?,
        kernfs_node_parent: node.field("__parent").or_else(|_| node.field("parent"))?,
        cred_uid: cred.field("uid")?,
        cred_suid: cred.field("suid")?,
        cred_euid: cred.field("euid")?,
        cred_fsuid: cred.field("fsuid")?,
        cred_gid: cred.field("gid")?,
        cred_sgid: cred.field("sgid")?,
        cred_egid: cred.field("egid")?,
        cred_fsgid: cred.field("fsgid")?,
        cred_user_ns: cred.field("user_ns")?,
        cred_effective: cred.field("cap_effective")?,
        cred_non_rcu: cred.field("non_rcu")?,
        user_ns_parent: user_ns.field("parent")?,
        user_ns_owner: user_ns.field("owner")?,
        task_files: task.field("files")?,
        files_fdt: Structure::find(btf, "files_struct")?.field("fdt")?,
        fdtable_fd: Structure::find(btf, "fdtable")?.field("fd")?,
        file_inode: file.field("f_inode")?,
        file_mode: file.field("f_mode")?,
        file_mount: file.field("f_path")? + path.field("mnt")?,
        file_entry: file.field("f_path")? + path.field("dentry")?,
        inode_sb: inode.field("i_sb")?,
        inode_mode: inode.field("i_mode")?,
        inode_rdev: inode.field("i_rdev")?,
        super_magic: superblock.field("s_magic")?,
        super_fs_info: superblock.field("s_fs_info")?,
        proc_pid_ns: Structure::find(btf, "proc_fs_info")?.field("pid_ns")?,
        kernfs_ns: Structure::find(btf, "kernfs_super_info")?.field("ns")?,
        nsproxy_pid_ns: nsproxy.field("pid_ns_for_children")?,
        nsproxy_net_ns: nsproxy.field("net_ns")?,
        net_ns: Structure::find(btf, "net")?.field("ns")?,
        mount_root: Structure::find(btf, "vfsmount")?.field("mnt_root")?,
        entry_parent: entry.field("d_parent")?,
        entry_name: entry.field("d_name")? + Structure::find(btf, "qstr")?.field("name")?,
        binprm_filename: Structure::find(btf, "linux_binprm")?.field("filename")?,
        task_fs: task.field("fs")?,
        fs_root: Structure::find(btf, "fs_struct")?.field("root")?,
        fs_directory: Structure::find(btf, "fs_struct")?.field("pwd")?,
        path_mount: path.field("mnt")?,
        path_entry: path.field("dentry")?,
        mount_mount: mount.field("mnt")?,
        mount_parent: mount.field("mnt_parent")?,
        mount_point: mount.field("mnt_mountpoint")?,
        regs_native: regs.fields(["di", "si", "dx", "r10", "r8"])?,
        regs_compat: regs.fields(["bx", "cx", "dx", "si", "di"])?,
        regs_pairs: [[regs.field("ip")?, regs.field("cx")?], [regs.field("flags")?, regs.field("r11")?]],
        regs_syscall: regs.field("orig_ax")?,
        event_exec_filename: exec.field("__data_loc_filename")?,
        event_exit_result: Structure::find(btf, "trace_event_raw_sys_exit")?.field("ret")?,
        event_capable,
    })
}

/// Whether `io_uring`'s workers are threads of the process that uses it, as since Linux 5.12 and 5.10.162; before,
/// they are the kernel's own.
pub(super) fn has_own_io_workers(btf: &Btf) -> bool {
    btf.resolve_types_by_name("create_io_thread").is_ok_and(|types| !types.is_empty())
}

/// Offset of one field of one structure, in bytes.
///
/// # Errors
///
/// When the kernel has no such structure or field: the error names it.
pub(super) fn field(btf: &Btf, structure: &str, field: &str) -> Result<u32> {
    Structure::find(btf, structure)?.field(field)
}

/// The running kernel's types. What is mapped is read where it lies, which takes a tenth of the time of parsing all of it.
/// Linux maps the file since 6.16 (`btf_sysfs_vmlinux_mmap`, `kernel/bpf/sysfs_btf.c`); before that, a copy is mapped.
///
/// # Errors
///
/// When the kernel has no BTF.
pub(super) fn kernel_types() -> Result<Btf> {
    if let Ok(types) = Btf::from_file_with_backend(BTF_PATH, Backend::Mmap) {
        return Ok(types);
    }
    let bytes = fs::read(BTF_PATH).with_context(|| {
        format!(
            "cannot read {BTF_PATH}: this kernel was built without CONFIG_DEBUG_INFO_BTF; \
             distribution kernels since 2020 have it"
        )
    })?;
    let types = map_copy(&bytes).or_else(|_| Btf::from_bytes(&bytes));
    types.with_context(|| format!("cannot parse {BTF_PATH}"))
}

fn map_copy(bytes: &[u8]) -> btf_rs::Result<Btf> {
    let copy = rustix::fs::memfd_create("unpriv-btf", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
    let mut copy = File::from(copy);
    copy.write_all(bytes)?;
    Btf::from_file_with_backend(format!("/proc/self/fd/{}", copy.as_raw_fd()), Backend::Mmap)
}

struct Structure<'a> {
    btf: &'a Btf,
    name: &'a str,
    members: Struct,
}

impl<'a> Structure<'a> {
    fn find(btf: &'a Btf, name: &'a str) -> Result<Self> {
        let types = btf.resolve_types_by_name(name).unwrap_or_default();
        let structure = types.into_iter().find_map(|found| match found {
            Type::Struct(structure) if !structure.members.is_empty() => Some(structure),
            _ => None,
        });
        match structure {
            Some(structure) => Ok(Self { btf, name, members: structure }),
            None => bail!("this kernel's BTF has no `struct {name}`; please report the kernel version"),
        }
    }

    /// Offset of a field in bytes, looking into anonymous members.
    fn field(&self, field: &str) -> Result<u32> {
        match self.search(&self.members, field)? {
            Some(bits) => Ok(bits / 8),
            None => bail!(
                "this kernel's `struct {}` has no field `{field}`; please report the kernel version",
                self.name
            ),
        }
    }

    /// How many elements a field has that is an array.
    fn length(&self, field: &str) -> Result<u32> {
        let members = &self.members.members;
        let member =
            members.iter().find(|&member| self.btf.resolve_name(member).is_ok_and(|name| name == field));
        let id = member.and_then(btf_rs::BtfType::get_type_id);
        match id.map(|id| self.btf.resolve_type_by_id(id)).transpose()? {
            Some(Type::Array(array)) => Ok(u32::try_from(array.len())?),
            _ => bail!(
                "this kernel's `struct {}` has no array `{field}`; please report the kernel version",
                self.name
            ),
        }
    }

    fn fields<const N: usize>(&self, fields: [&str; N]) -> Result<[u32; N]> {
        let mut offsets = [0; N];
        for (offset, field) in offsets.iter_mut().zip(fields) {
            *offset = self.field(field)?;
        }
        Ok(offsets)
    }

    fn search(&self, structure: &Struct, field: &str) -> Result<Option<u32>> {
        for member in &structure.members {
            let name = self.btf.resolve_name(member).unwrap_or_default();
            if name == field {
                return Ok(Some(member.bit_offset()));
            }
            if !name.is_empty() {
                continue;
            }
            let Some(id) = member.get_type_id() else { continue };
            if let Type::Struct(inner) | Type::Union(inner) = self.btf.resolve_type_by_id(id)?
                && let Some(bits) = self.search(&inner, field)?
            {
                return Ok(Some(member.bit_offset() + bits));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_the_same_however_they_are_read() {
        let bytes = fs::read(BTF_PATH).unwrap();
        let offsets = |types: Btf| format!("{:?}", read(&types).unwrap());
        let parsed = offsets(Btf::from_bytes(&bytes).unwrap());
        assert_eq!(offsets(map_copy(&bytes).unwrap()), parsed);
        assert_eq!(offsets(kernel_types().unwrap()), parsed);
    }

    #[test]
    fn the_running_kernel_has_every_field() {
        let offsets = read(&kernel_types().unwrap()).unwrap();
        assert_ne!(offsets.task_real_cred, 0);
        assert_ne!(offsets.cred_non_rcu, 0);
        assert_ne!(offsets.regs_syscall, 0);
    }
}
