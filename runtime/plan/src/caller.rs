//! Who runs the runtime, in which user namespace, and what follows: who takes mounts of the host, who writes id maps.
//!
//! user_namespaces(7) has the rules: whoever makes a user namespace without privileges may map one id, his own, and no
//! other; the rest is for newuidmap(1) and newgidmap(1), which know what /etc/subuid and /etc/subgid allow.

use std::path::PathBuf;

use crate::slots::c;
use crate::step::{Enter, IdMap, IdRange, OnChild};

/// Every id to itself: the map of the initial user namespace.
const EVERYBODY: IdRange = IdRange { inside: 0, outside: 0, count: u32::MAX };

/// linux/capability.h.
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
const CAP_SYS_ADMIN: u32 = 21;

/// Who a new user namespace's first process is there.
pub(crate) const ALL_CAPS: u64 = u64::MAX;

/// The caller, as observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Permitted capabilities, bit n for capability n.
    pub caps: u64,
    /// /proc/self/uid_map.
    pub uid_map: Vec<IdRange>,
    /// /proc/self/gid_map.
    pub gid_map: Vec<IdRange>,
    /// /proc/self/setgroups, which namespaces below inherit.
    pub setgroups_denied: bool,
    /// newuidmap, absolute, if it is needed and in $PATH.
    pub newuidmap: Option<PathBuf>,
    /// newgidmap, absolute, if it is needed and in $PATH.
    pub newgidmap: Option<PathBuf>,
}

impl Caller {
    /// Root of the initial user namespace with every capability.
    pub fn root() -> Caller {
        Caller {
            uid: 0,
            gid: 0,
            caps: ALL_CAPS,
            uid_map: vec![EVERYBODY],
            gid_map: vec![EVERYBODY],
            setgroups_denied: false,
            newuidmap: None,
            newgidmap: None,
        }
    }

    /// Whether it lives in another user namespace than the first.
    pub fn in_user_namespace(&self) -> bool {
        self.uid_map != [EVERYBODY]
    }

    /// What `--rootless auto` means: an ordinary user, or root of a user namespace.
    pub fn is_rootless(&self) -> bool {
        self.uid != 0 || self.in_user_namespace()
    }

    /// Whether it may take mounts of the host. If not, the first process does, once in a user namespace of its own.
    pub fn may_mount(&self) -> bool {
        self.has(CAP_SYS_ADMIN)
    }

    /// Whether the maps can be written to the kernel, rather than given to newuidmap and newgidmap.
    pub(crate) fn may_write(&self, map: Map, ranges: &[IdRange]) -> bool {
        let (cap, own) = match map {
            Map::Uids => (CAP_SETUID, self.uid),
            Map::Gids => (CAP_SETGID, self.gid),
        };
        self.has(cap) || matches!(ranges, [one] if one.count == 1 && one.outside == own)
    }

    /// newuidmap or newgidmap.
    pub(crate) fn helper(&self, map: Map) -> Option<&PathBuf> {
        match map {
            Map::Uids => self.newuidmap.as_ref(),
            Map::Gids => self.newgidmap.as_ref(),
        }
    }

    /// Its own map, which bounds those of namespaces below.
    pub(crate) fn map(&self, map: Map) -> &[IdRange] {
        match map {
            Map::Uids => &self.uid_map,
            Map::Gids => &self.gid_map,
        }
    }

    /// Whether setgroups(2) must be, or is, denied in a namespace below with this map of groups: otherwise its maker
    /// could leave a group that keeps him from something.
    pub(crate) fn denies_setgroups(&self, gids: &[IdRange]) -> bool {
        self.setgroups_denied || (!self.has(CAP_SETGID) && self.may_write(Map::Gids, gids))
    }

    pub(crate) fn write_maps(&self, uids: Vec<IdRange>, gids: Vec<IdRange>) -> OnChild {
        let deny_setgroups = !self.setgroups_denied && self.denies_setgroups(&gids);
        let map = |map: Map, ranges: Vec<IdRange>| {
            let helper = if self.may_write(map, &ranges) { None } else { self.helper(map).map(c) };
            IdMap { ranges, helper }
        };
        OnChild::IdMaps { uids: map(Map::Uids, uids), gids: map(Map::Gids, gids), deny_setgroups }
    }

    /// Who enters namespaces that are there already for a child to be born in: we and then come back (first list), or a
    /// process in between that does not (second). A user namespace is left by nobody, and root of one may enter what
    /// is his but not return to what is not; an ordinary user has rights in nothing else before he is in his own.
    pub(crate) fn enter(&self, mut others: Vec<Enter>, user: Option<Enter>) -> (Vec<Enter>, Vec<Enter>) {
        if !self.may_mount() {
            (Vec::new(), user.into_iter().chain(others).collect())
        } else if self.in_user_namespace() {
            others.extend(user);
            (Vec::new(), others)
        } else {
            (others, user.into_iter().collect())
        }
    }

    fn has(&self, cap: u32) -> bool {
        self.caps >> cap & 1 == 1
    }
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Map {
    Uids,
    Gids,
}

impl Map {
    /// Its field of `linux` in config.json.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Map::Uids => "uidMappings",
            Map::Gids => "gidMappings",
        }
    }

    /// Who writes it for ordinary users.
    pub(crate) fn helper_name(self) -> &'static str {
        match self {
            Map::Uids => "newuidmap",
            Map::Gids => "newgidmap",
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::panic, reason = "a test fails by panicking")]
    use super::*;

    fn range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange { inside, outside, count }
    }

    fn user() -> Caller {
        Caller {
            uid: 1000,
            gid: 100,
            caps: 0,
            newuidmap: Some(PathBuf::from("/u")),
            newgidmap: Some(PathBuf::from("/g")),
            ..Caller::root()
        }
    }

    /// Helpers of both maps and whether setgroups is denied first.
    fn written(caller: &Caller, uids: &[IdRange], gids: &[IdRange]) -> (Option<String>, Option<String>, bool) {
        let OnChild::IdMaps { uids, gids, deny_setgroups } = caller.write_maps(uids.to_vec(), gids.to_vec()) else {
            panic!("maps are what was asked for");
        };
        let text = |map: IdMap| map.helper.map(|path| path.to_string_lossy().into_owned());
        (text(uids), text(gids), deny_setgroups)
    }

    #[test]
    fn the_kernel_takes_ones_own_id_alone_and_helpers_bring_the_rest() {
        let (own_uid, own_gid) = ([range(0, 1000, 1)], [range(0, 100, 1)]);
        let many = |own| [range(0, own, 1), range(1, 100_000, 65536)];
        let helper = |name: &str| Some(name.to_owned());
        assert_eq!(written(&Caller::root(), &many(0), &many(0)), (None, None, false));
        assert_eq!(written(&user(), &own_uid, &own_gid), (None, None, true));
        assert_eq!(written(&user(), &many(1000), &many(100)), (helper("/u"), helper("/g"), false));
        assert_eq!(written(&user(), &own_uid, &many(100)), (None, helper("/g"), false));
        assert_eq!(written(&user(), &[range(0, 0, 1)], &own_gid), (helper("/u"), None, true), "root's is not ours");
        let nested = Caller { uid_map: many(1000).to_vec(), setgroups_denied: true, ..Caller::root() };
        assert_eq!(written(&nested, &[range(0, 1, 10)], &[range(0, 0, 1)]), (None, None, false), "denied already");
    }

    #[test]
    fn namespaces_are_entered_by_who_has_the_right_and_a_way_back() {
        let enter = |what: &str| Enter { ns: crate::Slot(0), kind: 0, what: what.to_owned() };
        let order = |caller: Caller| {
            let (around, within) = caller.enter(vec![enter("net"), enter("pid")], Some(enter("user")));
            [around, within].map(|list| list.into_iter().map(|enter| enter.what).collect::<Vec<_>>().join(" "))
        };
        let mapped = Caller { uid_map: vec![range(0, 1000, 1)], ..Caller::root() };
        assert_eq!(order(Caller::root()), ["net pid", "user"]);
        assert_eq!(order(mapped), ["", "net pid user"]);
        assert_eq!(order(user()), ["", "user net pid"]);
    }

    #[test]
    fn rootless_is_who_is_not_root_or_only_called_so() {
        let mapped = Caller { uid_map: vec![range(0, 1000, 1)], ..Caller::root() };
        let answers = [Caller::root(), user(), mapped].map(|who| (who.is_rootless(), who.may_mount()));
        assert_eq!(answers, [(false, true), (true, false), (true, true)]);
    }
}
