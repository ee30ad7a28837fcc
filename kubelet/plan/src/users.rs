//! Which numbers a container's processes run as.
//!
//! Owns: reading `USER` of an image against its passwd and group files. Does not own: opening those files.

/// Numbers and home directory of a process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Groups the image's group file lists for the user.
    pub groups: Vec<u32>,
    /// Home directory from the passwd file.
    pub home: Option<String>,
}

/// Why a user cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Not in the image's passwd file.
    #[error("unable to find user {user}: no matching entries in the image's passwd file")]
    NoUser {
        /// The name.
        user: String,
    },
    /// Not in the image's group file.
    #[error("unable to find group {group}: no matching entries in the image's group file")]
    NoGroup {
        /// The name.
        group: String,
    },
}

/// Resolves `user[:group]`, names or numbers, against the text of passwd and group files.
pub fn resolve(user: &str, passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (user, group_word) = user.split_once(':').map_or((user, None), |(u, g)| (u, Some(g)));
    let user = if user.is_empty() { "0" } else { user };
    let number: Option<u32> = user.parse().ok();
    let entry = passwd.lines().map(fields).find(|f| match number {
        Some(uid) => f.get(2).and_then(|v| v.parse().ok()) == Some(uid),
        None => f.first() == Some(&user),
    });
    let entry_number = |at: usize| entry.as_ref().and_then(|f| f.get(at)).and_then(|v| v.parse().ok());
    let uid = entry_number(2).or(number).ok_or_else(|| UserError::NoUser { user: user.to_owned() })?;
    let gid = match group_word.filter(|g| !g.is_empty()) {
        Some(word) => group_number(word, group)?,
        None => entry_number(3).unwrap_or(0),
    };
    let name = entry.as_ref().and_then(|f| f.first().copied());
    let groups = if group_word.is_some() { Vec::new() } else { groups_of(name, group) };
    let home = entry.and_then(|f| f.get(5).map(|h| (*h).to_owned())).filter(|h| !h.is_empty());
    Ok(Identity { uid, gid, groups, home })
}

fn group_number(word: &str, group: &str) -> Result<u32, UserError> {
    if let Ok(gid) = word.parse() {
        return Ok(gid);
    }
    let found = group.lines().map(fields).find(|f| f.first() == Some(&word));
    found
        .and_then(|f| f.get(2).and_then(|v| v.parse().ok()))
        .ok_or_else(|| UserError::NoGroup { group: word.to_owned() })
}

fn groups_of(name: Option<&str>, group: &str) -> Vec<u32> {
    let Some(name) = name else { return Vec::new() };
    let member = |f: &Vec<&str>| f.get(3).is_some_and(|m| m.split(',').any(|one| one == name));
    group.lines().map(fields).filter(member).filter_map(|f| f.get(2)?.parse().ok()).collect()
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:50:web,root\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let table = [
            ("", Some((0, 0, vec![50]))),
            ("web", Some((33, 34, vec![50]))),
            ("33", Some((33, 34, vec![50]))),
            ("web:logs", Some((33, 50, vec![]))),
            ("1000", Some((1000, 0, vec![]))),
            ("1000:7", Some((1000, 7, vec![]))),
            ("nobody", None),
            ("web:nogroup", None),
        ];
        for (user, wanted) in table {
            let got = resolve(user, PASSWD, GROUP).ok().map(|i| (i.uid, i.gid, i.groups));
            assert_eq!(got, wanted, "{user}");
        }
    }
}
