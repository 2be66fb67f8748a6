//! The kernel's audit records of what `AppArmor` refused, from the multicast group that every record goes to.

use std::{
    collections::BTreeSet,
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind,
        netlink::{self, SocketAddrNetlink},
        recv, socket_with,
        sockopt::set_socket_recv_buffer_size_force,
    },
};

use super::audit_record::{Record, refusal};
use crate::trace::Refusal;

/// `AUDIT_NLGRP_READLOG` as a bit of the address, linux/audit.h.
const READ_LOG: u32 = 1;
/// Room for some ten thousand records.
const BUFFER: usize = 8 << 20;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// A record is longer than no page of 8 KB (`AUDIT_MESSAGE_TEXT_MAX`, linux/audit.h).
const LONGEST: usize = 16 << 10;
/// How long the kernel's audit thread may take to pass on what it has.
const SILENCE: Duration = Duration::from_millis(100);
/// How long the reading takes at most, whatever else the machine has to say.
const PATIENCE: Duration = Duration::from_secs(2);

/// Listens from its making on.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Joins the group; takes `CAP_AUDIT_READ` in the initial namespaces.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::AUDIT))?;
        // A smaller one will do for most.
        set_socket_recv_buffer_size_force(&socket, BUFFER).unwrap_or_default();
        bind(&socket, &SocketAddrNetlink::new(0, READ_LOG))?;
        Ok(Self(socket))
    }

    /// What was refused since then to what runs under a profile, or to others because of it.
    #[must_use]
    pub fn refusals(&self, profile: &str) -> BTreeSet<Refusal> {
        let end = Instant::now() + PATIENCE;
        let mut buffer = vec![0; LONGEST];
        let mut refusals = BTreeSet::new();
        while Instant::now() < end {
            match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok((_, length)) => {
                    let text = buffer.get(HEADER..length).unwrap_or_default();
                    refusals.extend(refusal(&Record::parse(&String::from_utf8_lossy(text)), profile));
                }
                Err(rustix::io::Errno::AGAIN) if self.waits() => {}
                // What did not fit is asked for again by the next run.
                Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        refusals
    }

    /// Whether more comes.
    fn waits(&self) -> bool {
        let Ok(silence) = SILENCE.try_into() else { return false };
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&silence)).is_ok_and(|ready| ready != 0)
    }
}
