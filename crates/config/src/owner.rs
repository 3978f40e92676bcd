//! Whom workers run as: names and numbers of users and groups, by the machine's own lists of them.

use std::fs;
use std::os::unix::fs::MetadataExt;

use oxherd_core::Owner;
use thiserror::Error;

/// The machine's users.
const USERS: &str = "/etc/passwd";
/// The machine's groups.
const GROUPS: &str = "/etc/group";

/// Somebody to run as, and what belongs to him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) owner: Owner,
    /// His name and his home folder; nothing for a number that the list does not have.
    pub(crate) names: Option<(String, String)>,
}

/// Why nobody can be run as.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OwnerError {
    /// Only root may become somebody else.
    #[error(
        "cannot run as {0}: only root can start programs as another user; run oxherd as root, or leave it out"
    )]
    NotRoot(String),
    /// There is nobody of that name.
    #[error("cannot run as {0}: {USERS} has no such user; give the name or number of one that exists")]
    NoUser(String),
    /// There is no group of that name.
    #[error(
        "cannot run in the group {0}: {GROUPS} has no such group; give the name or number of one that exists"
    )]
    NoGroup(String),
}

/// Looks up whom a program is to run as; nobody else if that is who asks.
pub(crate) fn find(user: Option<&str>, group: Option<&str>) -> Result<Option<Account>, OwnerError> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let lists = Lists { users: &read(USERS), groups: &read(GROUPS) };
    let me = fs::metadata("/proc/self").map_or((0, 0), |metadata| (metadata.uid(), metadata.gid()));
    let account = lists.find(user, group, me)?;
    let Owner { uid, gid, .. } = account.owner;
    match me {
        (0, _) => Ok(Some(account)),
        _ if (uid, gid) == me => Ok(None),
        _ => Err(OwnerError::NotRoot(user.or(group).unwrap_or_default().into())),
    }
}

/// The texts of the machine's lists.
struct Lists<'a> {
    users: &'a str,
    groups: &'a str,
}

/// A line of the list of users.
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> Lists<'a> {
    fn find(&self, user: Option<&str>, group: Option<&str>, me: (u32, u32)) -> Result<Account, OwnerError> {
        let group = group.map(|group| self.group(group)).transpose()?;
        let Some(user) = user else {
            let owner = Owner { uid: me.0, gid: group.unwrap_or(me.1), groups: Vec::new() };
            return Ok(Account { owner, names: None });
        };
        let known = self.users().find(|it| it.name == user || user.parse() == Ok(it.uid));
        match (known, user.parse::<u32>()) {
            (Some(it), _) => {
                let gid = group.unwrap_or(it.gid);
                let owner = Owner { uid: it.uid, gid, groups: self.groups_of(it.name, gid) };
                Ok(Account { owner, names: Some((it.name.into(), it.home.into())) })
            }
            (None, Ok(uid)) => {
                let owner = Owner { uid, gid: group.unwrap_or(uid), groups: Vec::new() };
                Ok(Account { owner, names: None })
            }
            (None, Err(_)) => Err(OwnerError::NoUser(user.into())),
        }
    }

    /// `name:password:uid:gid:comment:home:shell`
    fn users(&self) -> impl Iterator<Item = User<'a>> {
        self.users.lines().filter_map(|line| {
            let mut parts = line.split(':');
            let name = parts.next()?;
            let uid = parts.nth(1)?.parse().ok()?;
            let gid = parts.next()?.parse().ok()?;
            Some(User { name, uid, gid, home: parts.nth(1)? })
        })
    }

    /// `name:password:gid:member,member`
    fn groups(&self) -> impl Iterator<Item = (&'a str, u32, &'a str)> {
        self.groups.lines().filter_map(|line| {
            let mut parts = line.split(':');
            let name = parts.next()?;
            let gid = parts.nth(1)?.parse().ok()?;
            Some((name, gid, parts.next().unwrap_or("")))
        })
    }

    fn group(&self, wanted: &str) -> Result<u32, OwnerError> {
        let known = self.groups().find(|(name, ..)| *name == wanted).map(|(_, gid, _)| gid);
        known.or_else(|| wanted.parse().ok()).ok_or_else(|| OwnerError::NoGroup(wanted.into()))
    }

    fn groups_of(&self, user: &str, first: u32) -> Vec<u32> {
        let has = |members: &str| members.split(',').any(|member| member == user);
        self.groups()
            .filter(|(_, gid, members)| *gid != first && has(members))
            .map(|(_, gid, _)| gid)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTS: Lists = Lists {
        users: "root:x:0:0:root:/root:/bin/bash\nbroken\nweb:x:33:34:Web:/var/www:/bin/false\n",
        groups: "root:x:0:\nwww:x:34:\ncerts:x:50:other,web\nmail:x:8:other\n",
    };

    fn found(user: Option<&str>, group: Option<&str>) -> Result<Account, String> {
        LISTS.find(user, group, (0, 0)).map_err(|error| error.to_string())
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        let web = Account {
            owner: Owner { uid: 33, gid: 34, groups: vec![50] },
            names: Some(("web".into(), "/var/www".into())),
        };
        assert_eq!(found(Some("web"), None), Ok(web.clone()));
        assert_eq!(found(Some("33"), None), Ok(web.clone()));
        assert_eq!(
            found(Some("web"), Some("certs")).unwrap().owner,
            Owner { uid: 33, gid: 50, groups: vec![] }
        );
        assert_eq!(found(Some("4000"), None).unwrap().owner, Owner { uid: 4000, gid: 4000, groups: vec![] });
        assert_eq!(found(None, Some("www")).unwrap().owner, Owner { uid: 0, gid: 34, groups: vec![] });
        assert!(found(Some("nobody-here"), None).unwrap_err().contains("/etc/passwd has no such user"));
        assert!(found(Some("web"), Some("gone")).unwrap_err().contains("/etc/group has no such group"));
    }
}
