//! Who a container runs as: an image's `USER` resolved against its own /etc/passwd and /etc/group.
//! Source: OCI image specification, config.md, `User`; behaviour for missing names as runc and containerd have it.

/// A resolved identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Groups of /etc/group that list the user by name, without the primary one unless listed, ascending.
    pub supplementary: Vec<u32>,
    /// The user's name, when /etc/passwd has one.
    pub name: Option<String>,
    /// The home directory, when /etc/passwd has one.
    pub home: Option<String>,
}

/// Why a `USER` cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("user {0:?} is not in the image's /etc/passwd")]
    NoUser(String),
    /// No such group.
    #[error("group {0:?} is not in the image's /etc/group")]
    NoGroup(String),
    /// A number that is no id.
    #[error("{0:?} is not a user or group id (0 to 4294967294)")]
    Range(String),
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Resolves `user[:group]`, each a name or a number, with the texts of the two files (empty when missing). An empty
/// `spec` is root. A number needs no entry; its group is then 0.
pub fn resolve(spec: &str, passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = id(user)?;
    let entry =
        passwd.lines().filter_map(passwd_line).find(|entry| number.map_or(entry.name == user, |uid| entry.uid == uid));
    let uid = match (&entry, number) {
        (Some(entry), _) => entry.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(UserError::NoUser(user.to_owned())),
    };
    let gid = match wanted_group {
        Some(wanted) => group_id(wanted, group)?,
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    // As in runc: an explicit group means exactly that group.
    let name = entry.as_ref().map(|entry| entry.name);
    let supplementary = match (wanted_group, name) {
        (None, Some(name)) => memberships(name, group),
        _ => Vec::new(),
    };
    let home = entry.as_ref().map(|entry| entry.home.to_owned()).filter(|home| !home.is_empty());
    Ok(Identity { uid, gid, supplementary, name: name.map(str::to_owned), home })
}

/// The groups of /etc/group that list this user.
pub fn memberships(name: &str, group: &str) -> Vec<u32> {
    let mut gids: Vec<u32> = group
        .lines()
        .filter_map(group_line)
        .filter(|group| group.members.split(',').any(|member| member == name))
        .map(|group| group.gid)
        .collect();
    gids.sort_unstable();
    gids.dedup();
    gids
}

fn group_id(wanted: &str, group: &str) -> Result<u32, UserError> {
    if let Some(gid) = id(wanted)? {
        return Ok(gid);
    }
    group
        .lines()
        .filter_map(group_line)
        .find(|group| group.name == wanted)
        .map(|group| group.gid)
        .ok_or_else(|| UserError::NoGroup(wanted.to_owned()))
}

/// A number is an id, anything else a name. 4294967295 is `(uid_t) -1`, which chown(2) and setuid(2) read as "leave".
fn id(text: &str) -> Result<Option<u32>, UserError> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(u32::MAX) | Err(_) => Err(UserError::Range(text.to_owned())),
        Ok(id) => Ok(Some(id)),
    }
}

fn passwd_line(line: &str) -> Option<Passwd<'_>> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Passwd { name, uid, gid, home: fields.nth(1).unwrap_or("") })
}

fn group_line(line: &str) -> Option<Group<'_>> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some(Group { name, gid, members: fields.next().unwrap_or("") })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nweb:x:33:34:www:/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:90:web,other\naudio:x:29:web\n";

    #[test]
    fn every_form_of_user_is_resolved() {
        for (spec, uid, gid, groups, home) in [
            ("", 0, 0, vec![], Some("/root")),
            ("root", 0, 0, vec![], Some("/root")),
            ("web", 33, 34, vec![29, 90], Some("/var/www")),
            ("33", 33, 34, vec![29, 90], Some("/var/www")),
            ("web:logs", 33, 90, vec![], Some("/var/www")),
            ("web:7", 33, 7, vec![], Some("/var/www")),
            ("1000", 1000, 0, vec![], None),
            ("1000:logs", 1000, 90, vec![], None),
            ("web:", 33, 34, vec![29, 90], Some("/var/www")),
        ] {
            let identity = resolve(spec, PASSWD, GROUP).unwrap();
            assert_eq!((identity.uid, identity.gid), (uid, gid), "{spec}");
            assert_eq!(identity.supplementary, groups, "{spec}");
            assert_eq!(identity.home.as_deref(), home, "{spec}");
        }
    }

    #[test]
    fn unknown_names_and_impossible_numbers_are_errors() {
        assert_eq!(resolve("nobody", PASSWD, GROUP), Err(UserError::NoUser("nobody".to_owned())));
        assert_eq!(resolve("web:nogroup", PASSWD, GROUP), Err(UserError::NoGroup("nogroup".to_owned())));
        assert_eq!(resolve("4294967295", "", ""), Err(UserError::Range("4294967295".to_owned())));
        assert_eq!(resolve("99999999999", "", ""), Err(UserError::Range("99999999999".to_owned())));
    }

    proptest! {
        #[test]
        fn no_file_makes_the_lookup_panic(spec in any::<String>(), passwd in any::<String>(), group in any::<String>()) {
            let _ = resolve(&spec, &passwd, &group);
        }
    }
}
