//! Moving network devices of the host into a container (`linux.netDevices`), with their addresses.
//!
//! A few rtnetlink(7) messages written by hand: a netlink library would double this program's size. A virtual device
//! ends with the container's namespace, a physical one comes back to the host: both are the kernel's doing.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use pintle_sys::Errno;

use crate::error::{Doing as _, Error, Result};

const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_EXCL: u16 = 0x600;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_FLAGS: u16 = 8;
const IFA_CACHEINFO: u16 = 6;
const IFA_F_PERMANENT: u32 = 0x80;
const IFF_UP: u32 = 1;
const RT_SCOPE_UNIVERSE: u8 = 0;
const HEADER: usize = 16;

/// Moves devices, given as (name here, name there), into the network namespace of `pid`.
pub fn move_all(pid: i32, devices: &[(String, String)]) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let what = || "open the container's network namespace".to_owned();
    let there = File::open(format!("/proc/{pid}/ns/net")).doing(what)?;
    let home = File::open("/proc/self/ns/net").doing(what)?;
    let host = Netlink::open().doing(what)?;
    setns(&there, CloneFlags::CLONE_NEWNET).doing(what)?;
    let container = Netlink::open();
    setns(&home, CloneFlags::CLONE_NEWNET).doing(|| "return to own network namespace".to_owned())?;
    let container = container.doing(what)?;
    for (outside, inside) in devices {
        move_one(&host, &container, &there, outside, inside).map_err(|errno| Error::System {
            what: format!("move network device {outside:?} into the container as {inside:?} (linux.netDevices)"),
            errno,
        })?;
    }
    Ok(())
}

fn move_one(host: &Netlink, container: &Netlink, there: &File, outside: &str, inside: &str) -> pintle_sys::Result<()> {
    let index = host.index(outside)?;
    let addresses = host.addresses(index)?;
    // A device that is up cannot be renamed on older kernels.
    host.call(RTM_NEWLINK, 0, &link_message(index, 0, IFF_UP))?;
    let mut message = link_message(index, 0, 0);
    attribute(&mut message, IFLA_NET_NS_FD, &there.as_fd().as_raw_fd().to_ne_bytes());
    attribute(&mut message, IFLA_IFNAME, &[inside.as_bytes(), b"\0"].concat());
    host.call(RTM_NEWLINK, 0, &message)?;
    let index = container.index(inside)?;
    for address in addresses {
        container.call(RTM_NEWADDR, NLM_F_CREATE_EXCL, &address.message(index))?;
    }
    container.call(RTM_NEWLINK, 0, &link_message(index, IFF_UP, IFF_UP))
}

/// struct ifinfomsg.
fn link_message(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut message = vec![0; 4];
    message.extend(index.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(change.to_ne_bytes());
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(((value.len() + 4) as u16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]);
        if length < 4 || length > bytes.len() {
            break;
        }
        found.push((kind, &bytes[4..length]));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    found
}

/// An address as the kernel described it: struct ifaddrmsg's first four bytes and the attributes worth keeping.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    head: [u8; 4],
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// Of an RTM_NEWADDR of device `index`; `None` for others, and for those that the kernel makes by itself.
    fn parse(body: &[u8], index: u32) -> Option<Address> {
        let head = [*body.first()?, *body.get(1)?, 0, *body.get(3)?];
        let of = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
        let attributes = attributes(body.get(8..)?);
        let wide = attributes.iter().find(|(kind, _)| *kind == IFA_FLAGS).and_then(|(_, v)| (*v).try_into().ok());
        let flags = wide.map_or(u32::from(body[2]), u32::from_ne_bytes);
        if of != index || head[3] != RT_SCOPE_UNIVERSE || flags & IFA_F_PERMANENT == 0 {
            return None;
        }
        let keep = |kind: &u16| !matches!(*kind, IFA_CACHEINFO | IFA_FLAGS);
        let attributes = attributes.iter().filter(|(kind, _)| keep(kind)).map(|(k, v)| (*k, v.to_vec())).collect();
        Some(Address { head, attributes })
    }

    fn message(&self, index: u32) -> Vec<u8> {
        let mut message = self.head.to_vec();
        message.extend(index.to_ne_bytes());
        self.attributes.iter().for_each(|(kind, value)| attribute(&mut message, *kind, value));
        message
    }
}

/// A socket of one network namespace.
struct Netlink(OwnedFd);

impl Netlink {
    fn open() -> pintle_sys::Result<Netlink> {
        let flags = SockFlag::SOCK_CLOEXEC;
        socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute).map(Netlink)
    }

    fn request(&self, kind: u16, flags: u16, body: &[u8]) -> pintle_sys::Result<()> {
        let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty()).map(drop)
    }

    /// Hands each message of the answer to `take` until the answer is complete.
    fn answer(&self, mut take: impl FnMut(u16, &[u8])) -> pintle_sys::Result<()> {
        let mut buffer = vec![0; 65536];
        loop {
            let n = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..n];
            while rest.len() >= HEADER {
                let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
                let kind = u16::from_ne_bytes([rest[4], rest[5]]);
                let Some(body) = rest.get(HEADER..length) else { return Err(Errno::EBADMSG) };
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let code = body.get(..4).and_then(|code| code.try_into().ok()).map_or(-1, i32::from_ne_bytes);
                        return if code == 0 { Ok(()) } else { Err(Errno::from_raw(-code)) };
                    }
                    _ => take(kind, body),
                }
                rest = &rest[length.next_multiple_of(4).min(rest.len())..];
            }
        }
    }

    fn call(&self, kind: u16, flags: u16, body: &[u8]) -> pintle_sys::Result<()> {
        self.request(kind, NLM_F_ACK | flags, body)?;
        self.answer(|_, _| {})
    }

    fn index(&self, name: &str) -> pintle_sys::Result<u32> {
        let mut message = link_message(0, 0, 0);
        attribute(&mut message, IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat());
        self.request(RTM_GETLINK, NLM_F_ACK, &message)?;
        let mut index = 0;
        self.answer(|kind, body| {
            if let (RTM_NEWLINK, Some(Ok(bytes))) = (kind, body.get(4..8).map(TryInto::try_into)) {
                index = u32::from_ne_bytes(bytes);
            }
        })?;
        if index == 0 { Err(Errno::ENODEV) } else { Ok(index) }
    }

    fn addresses(&self, index: u32) -> pintle_sys::Result<Vec<Address>> {
        self.request(RTM_GETADDR, NLM_F_DUMP, &[0; 8])?;
        let mut found = Vec::new();
        self.answer(|kind, body| {
            if kind == RTM_NEWADDR {
                found.extend(Address::parse(body, index));
            }
        })?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_global_addresses_are_kept_and_given_again_as_they_were() {
        let body = |index: u32, scope: u8, flags: u32| {
            let mut body = vec![2, 24, 0x80, scope];
            body.extend(index.to_ne_bytes());
            attribute(&mut body, 1, &[10, 0, 0, 1]);
            attribute(&mut body, IFA_CACHEINFO, &[0; 16]);
            attribute(&mut body, IFA_FLAGS, &flags.to_ne_bytes());
            body
        };
        let kept = Address { head: [2, 24, 0, 0], attributes: vec![(1, vec![10, 0, 0, 1])] };
        for (index, scope, flags, expected) in
            [(7, 0, 0x80, Some(&kept)), (8, 0, 0x80, None), (7, 253, 0x80, None), (7, 0, 0, None)]
        {
            assert_eq!(Address::parse(&body(index, scope, flags), 7).as_ref(), expected);
        }
        assert_eq!(Address::parse(&[2], 7), None, "too short");
        assert_eq!(kept.message(9), [2, 24, 0, 0, 9, 0, 0, 0, 8, 0, 1, 0, 10, 0, 0, 1]);
    }
}
