//! The words CRIU understands: requests, options and answers of `criu swrk` (criu, images/rpc.proto).
//!
//! Owns: shapes and encodings. Does not own: the socket (SOCK_SEQPACKET, one message a packet) and the process.
//!
//! proto2 tells an absent field from one that is zero, so every field is an `Option`; those that a container is never
//! dumped with are left out, which CRIU takes for absent.

use prost::Message;

/// The longest answer. CRIU's own callers read no more (libcriu's `recv_resp`: one page of options and a message).
pub const ANSWER_LEN_MAX: usize = 10 * 4096;

/// What is asked for, and what an answer answers (criu_req_type).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// Nothing.
    Empty = 0,
    /// Write a tree of processes to images.
    Dump = 1,
    /// Make it again.
    Restore = 2,
    /// Write its memory while it goes on.
    PreDump = 4,
    /// CRIU asks the caller to do something, and waits.
    Notify = 6,
    /// Which of [`Features`] CRIU and the kernel have.
    FeatureCheck = 9,
    /// Which CRIU this is.
    Version = 10,
}

/// How much of the cgroups is dumped and restored (criu_cg_mode).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum CgroupMode {
    /// Nothing.
    Ignore = 0,
    /// Memberships.
    None = 1,
    /// And values.
    Props = 2,
    /// Values of cgroups that CRIU makes itself.
    Soft = 3,
    /// Values of all.
    Full = 4,
    /// All, and none may be there before.
    Strict = 5,
    /// CRIU's own choice: soft.
    Default = 6,
}

/// Where memory pages go instead of into a file.
#[derive(Clone, PartialEq, Message)]
pub struct PageServer {
    /// Host.
    #[prost(string, optional, tag = "1")]
    pub address: Option<String>,
    /// TCP.
    #[prost(int32, optional, tag = "2")]
    pub port: Option<i32>,
}

/// A mount whose content is not CRIU's business. Dump: mount point and a name; restore: that name and a path here.
#[derive(Clone, PartialEq, Message)]
pub struct ExternalMount {
    /// Dump: the mount point. Restore: the name.
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// Dump: the name. Restore: what is bound there.
    #[prost(string, required, tag = "2")]
    pub value: String,
}

/// A namespace to be joined at restore.
#[derive(Clone, PartialEq, Message)]
pub struct JoinNamespace {
    /// `ipc`, `uts`, …
    #[prost(string, required, tag = "1")]
    pub kind: String,
    /// Its path.
    #[prost(string, required, tag = "2")]
    pub path: String,
}

/// A descriptor of CRIU's own that a restored process gets in place of the one with this key.
#[derive(Clone, PartialEq, Message)]
pub struct InheritFd {
    /// As /proc shows it, e.g. `pipe:[17]`, or a name agreed on at the dump.
    #[prost(string, required, tag = "1")]
    pub key: String,
    /// The number CRIU has it under.
    #[prost(int32, required, tag = "2")]
    pub fd: i32,
}

/// Where restored processes go in place of the cgroup they were dumped in.
#[derive(Clone, PartialEq, Message)]
pub struct CgroupRoot {
    /// A controller; empty on v2.
    #[prost(string, optional, tag = "1")]
    pub controller: Option<String>,
    /// Below the hierarchy's root.
    #[prost(string, required, tag = "2")]
    pub path: String,
}

/// Options (criu_opts), of those what a container needs.
#[derive(Clone, PartialEq, Message)]
pub struct Options {
    /// The caller's descriptor of the directory for images. (This and other numbers are the caller's own.)
    #[prost(int32, required, tag = "1")]
    pub images_dir_fd: i32,
    /// Dump: the root of the tree.
    #[prost(int32, optional, tag = "2")]
    pub pid: Option<i32>,
    /// Dump: the processes go on.
    #[prost(bool, optional, tag = "3")]
    pub leave_running: Option<bool>,
    /// Unix sockets whose other end is outside.
    #[prost(bool, optional, tag = "4")]
    pub ext_unix_sk: Option<bool>,
    /// Connected TCP sockets.
    #[prost(bool, optional, tag = "5")]
    pub tcp_established: Option<bool>,
    /// Any path to a device will do.
    #[prost(bool, optional, tag = "6")]
    pub evasive_devices: Option<bool>,
    /// A session or terminal that leads outside.
    #[prost(bool, optional, tag = "7")]
    pub shell_job: Option<bool>,
    /// Locks on files.
    #[prost(bool, optional, tag = "8")]
    pub file_locks: Option<bool>,
    /// 0 to 4.
    #[prost(int32, optional, tag = "9")]
    pub log_level: Option<i32>,
    /// A name in the work directory.
    #[prost(string, optional, tag = "10")]
    pub log_file: Option<String>,
    /// Where memory pages go.
    #[prost(message, optional, tag = "11")]
    pub page_server: Option<PageServer>,
    /// The caller wants [`Kind::Notify`].
    #[prost(bool, optional, tag = "12")]
    pub notify_scripts: Option<bool>,
    /// The root file system; at restore it must be a mount point.
    #[prost(string, optional, tag = "13")]
    pub root: Option<String>,
    /// Images of an earlier dump, relative to these.
    #[prost(string, optional, tag = "14")]
    pub parent_img: Option<String>,
    /// Remember which pages change from now on.
    #[prost(bool, optional, tag = "15")]
    pub track_mem: Option<bool>,
    /// Punch pages that are dumped anew out of the older images.
    #[prost(bool, optional, tag = "16")]
    pub auto_dedup: Option<bool>,
    /// The caller's descriptor of the directory for logs.
    #[prost(int32, optional, tag = "17")]
    pub work_dir_fd: Option<i32>,
    /// Files that are open and have no name get one.
    #[prost(bool, optional, tag = "18")]
    pub link_remap: Option<bool>,
    /// Mounts that are not dumped.
    #[prost(message, repeated, tag = "23")]
    pub ext_mnt: Vec<ExternalMount>,
    /// For CRIU without `manage_cgroups_mode`.
    #[prost(bool, optional, tag = "24")]
    pub manage_cgroups: Option<bool>,
    /// Restore: the new cgroups.
    #[prost(message, repeated, tag = "25")]
    pub cg_root: Vec<CgroupRoot>,
    /// Restore: the first process is the caller's child, not CRIU's.
    #[prost(bool, optional, tag = "26")]
    pub rst_sibling: Option<bool>,
    /// Restore: descriptors.
    #[prost(message, repeated, tag = "27")]
    pub inherit_fd: Vec<InheritFd>,
    /// How much of the cgroups.
    #[prost(enumeration = "CgroupMode", optional, tag = "34")]
    pub manage_cgroups_mode: Option<i32>,
    /// Dump: namespaces and others that are not dumped, `net[inode]:name`.
    #[prost(string, repeated, tag = "37")]
    pub external: Vec<String>,
    /// CLONE_NEW* of namespaces that are made and left empty.
    #[prost(uint32, optional, tag = "38")]
    pub empty_ns: Option<u32>,
    /// Restore: namespaces.
    #[prost(message, repeated, tag = "39")]
    pub join_ns: Vec<JoinNamespace>,
    /// Dump: the cgroup whose freezer stops everybody.
    #[prost(string, optional, tag = "44")]
    pub freeze_cgroup: Option<String>,
    /// TCP connections that are not complete yet are left out.
    #[prost(bool, optional, tag = "46")]
    pub tcp_skip_in_flight: Option<bool>,
    /// Pages are fetched when they are touched.
    #[prost(bool, optional, tag = "48")]
    pub lazy_pages: Option<bool>,
    /// The caller's descriptor that gets a zero byte when the page server of lazy pages is ready.
    #[prost(int32, optional, tag = "49")]
    pub status_fd: Option<i32>,
    /// The master of a terminal that has lost it is handed to the caller.
    #[prost(bool, optional, tag = "50")]
    pub orphan_pts_master: Option<bool>,
    /// A file whose settings come before these.
    #[prost(string, optional, tag = "51")]
    pub config_file: Option<String>,
    /// Restore: another LSM profile, `apparmor:name` or `selinux:label`.
    #[prost(string, optional, tag = "53")]
    pub lsm_profile: Option<String>,
    /// Restore: another SELinux context for mounts.
    #[prost(string, optional, tag = "63")]
    pub lsm_mount_context: Option<String>,
}

/// Abilities that differ between kernels (criu_features).
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Features {
    /// Soft-dirty pages.
    #[prost(bool, optional, tag = "1")]
    pub mem_track: Option<bool>,
    /// userfaultfd.
    #[prost(bool, optional, tag = "2")]
    pub lazy_pages: Option<bool>,
}

/// What the caller sends (criu_req).
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// Which.
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub kind: i32,
    /// For dumps and restores.
    #[prost(message, optional, tag = "2")]
    pub options: Option<Options>,
    /// The answer to a notification.
    #[prost(bool, optional, tag = "3")]
    pub notify_success: Option<bool>,
    /// For [`Kind::FeatureCheck`].
    #[prost(message, optional, tag = "5")]
    pub features: Option<Features>,
}

impl Request {
    /// Without options.
    pub fn bare(kind: Kind) -> Request {
        Request { kind: kind.into(), ..Request::default() }
    }

    /// A dump or restore.
    pub fn with(kind: Kind, options: Options) -> Request {
        Request { options: Some(options), ..Request::bare(kind) }
    }
}

/// Something the caller is to do before CRIU goes on.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Notify {
    /// E.g. `post-restore`.
    #[prost(string, optional, tag = "1")]
    pub script: Option<String>,
    /// The first process, as CRIU sees it.
    #[prost(int32, optional, tag = "2")]
    pub pid: Option<i32>,
}

/// CRIU's version.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Version {
    /// 3 of 3.17.1.
    #[prost(int32, required, tag = "1")]
    pub major: i32,
    /// 17 of 3.17.1.
    #[prost(int32, required, tag = "2")]
    pub minor: i32,
    /// Set if it was built from between two versions.
    #[prost(string, optional, tag = "3")]
    pub git_id: Option<String>,
    /// 1 of 3.17.1.
    #[prost(int32, optional, tag = "4")]
    pub sublevel: Option<i32>,
}

/// What CRIU sends (criu_resp).
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Answer {
    /// To what.
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub kind: i32,
    /// Whether it went well.
    #[prost(bool, required, tag = "2")]
    pub success: bool,
    /// For [`Kind::Notify`].
    #[prost(message, optional, tag = "5")]
    pub notify: Option<Notify>,
    /// Why it did not go well.
    #[prost(int32, optional, tag = "7")]
    pub errno: Option<i32>,
    /// For [`Kind::FeatureCheck`].
    #[prost(message, optional, tag = "8")]
    pub features: Option<Features>,
    /// Why it did not go well, in words.
    #[prost(string, optional, tag = "9")]
    pub message: Option<String>,
    /// For [`Kind::Version`].
    #[prost(message, optional, tag = "10")]
    pub version: Option<Version>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_and_answers_are_the_bytes_that_criu_has() {
        // protoc --encode criu_req rpc.proto <<< 'type: DUMP opts { images_dir_fd: 0 pid: 7 leave_running: false }'
        let options = Options { pid: Some(7), leave_running: Some(false), ..Options::default() };
        let request = Request::with(Kind::Dump, options);
        assert_eq!(request.encode_to_vec(), [8, 1, 18, 6, 8, 0, 16, 7, 24, 0]);
        // type: NOTIFY success: true notify { script: "a" pid: 1 }
        let bytes = [8, 6, 16, 1, 42, 5, 10, 1, b'a', 16, 1];
        let notify = Notify { script: Some("a".to_owned()), pid: Some(1) };
        let expected = Answer { kind: Kind::Notify.into(), success: true, notify: Some(notify), ..Answer::default() };
        assert_eq!(Answer::decode(&bytes[..]), Ok(expected));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoders_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::decode(&bytes[..]);
            let _ = Answer::decode(&bytes[..]);
        }
    }
}
