//! `USER` as an image means it: names are those of its own /etc/passwd and /etc/group.

use std::{io::Read as _, os::fd::BorrowedFd};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
};

use crate::{
    error::{Act as _, Error, Kind, Result},
    fs::open_regular,
};

/// The most of either file that is read; a machine with 100,000 users has less.
const LIMIT: u64 = 16 << 20;

/// A process's identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Further groups that list the user.
    pub(super) groups: Vec<u32>,
    /// The home directory, if the user is known.
    pub(super) home: Option<String>,
}

/// Resolves `user[:group]`, names or numbers; empty is root.
///
/// # Errors
/// `NotFound` for a name that the image does not know.
pub(super) fn resolve(root: BorrowedFd<'_>, text: &str) -> Result<Identity> {
    identity(text, &read(root, c"etc/passwd")?, &read(root, c"etc/group")?)
}

/// Whom `--chown=user[:group]` means. Without a group it is the user's own, or for a number the one with that number, as
/// BuildKit has it.
///
/// # Errors
/// `NotFound` for a name that the image at `root` does not know.
pub fn owner_of(root: BorrowedFd<'_>, text: &str) -> Result<(u32, u32)> {
    let found = resolve(root, text)?;
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let is_number = user.parse::<u32>().is_ok();
    Ok((found.uid, if group.is_empty() && is_number { found.uid } else { found.gid }))
}

fn read(root: BorrowedFd<'_>, path: &std::ffi::CStr) -> Result<String> {
    let act = || format!("read /{} of the image", path.to_string_lossy());
    // An image may hold anything under these names: no link leads out of it, and what is no file is never opened, as that
    // alone makes some devices act.
    match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(String::new()),
        Err(errno) => Err(errno).act(act),
        Ok(found) => {
            let Some(file) = open_regular(&found).act(act)? else { return Ok(String::new()) };
            let mut bytes = Vec::new();
            file.take(LIMIT).read_to_end(&mut bytes).act(act)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
    }
}

/// The fields of the lines of such a file.
fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

fn number(fields: &[&str], at: usize) -> Option<u32> {
    fields.get(at)?.parse().ok()
}

fn identity(text: &str, passwd: &str, group: &str) -> Result<Identity> {
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let known = lines(passwd)
        .find(|fields| fields.first() == Some(&user))
        .or_else(|| lines(passwd).find(|fields| fields.get(2) == Some(&user)));
    let mut found = match known {
        Some(fields) => Identity {
            uid: number(&fields, 2).ok_or_else(|| unknown("user", user, "/etc/passwd"))?,
            gid: number(&fields, 3).unwrap_or_default(),
            groups: groups_of(fields.first().copied().unwrap_or_default(), group),
            home: fields.get(5).filter(|home| !home.is_empty()).map(|home| (*home).to_owned()),
        },
        None => {
            let uid = user.parse().map_err(|_| unknown("user", user, "/etc/passwd"))?;
            Identity { uid, ..Identity::default() }
        }
    };
    if let Some(wanted) = wanted_group.filter(|wanted| !wanted.is_empty()) {
        let by_name = lines(group).find(|fields| fields.first() == Some(&wanted)).and_then(|fields| number(&fields, 2));
        found.gid = by_name.or_else(|| wanted.parse().ok()).ok_or_else(|| unknown("group", wanted, "/etc/group"))?;
        found.groups.clear();
    }
    Ok(found)
}

fn groups_of(name: &str, group: &str) -> Vec<u32> {
    let lists =
        |fields: &Vec<&str>| fields.get(3).is_some_and(|members| members.split(',').any(|member| member == name));
    lines(group).filter(lists).filter_map(|fields| number(&fields, 2)).collect()
}

fn unknown(what: &str, name: &str, file: &str) -> Error {
    Error::new(Kind::NotFound, format!("no {what} '{}' in {file} of the image", name.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::{Identity, identity};

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/var/www:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nvideo:x:44:www,other\n";

    #[test]
    fn names_and_numbers_are_the_images_own() {
        let www = Identity { uid: 33, gid: 34, groups: vec![44], home: Some("/var/www".to_owned()) };
        let of = |text| identity(text, PASSWD, GROUP);
        assert_eq!(of("www").unwrap(), www);
        assert_eq!(of("33").unwrap(), www);
        assert_eq!(of("").unwrap(), Identity { home: Some("/root".to_owned()), ..Identity::default() });
        assert_eq!(of("www:video").unwrap(), Identity { gid: 44, groups: Vec::new(), ..www.clone() });
        assert_eq!(of("7:8").unwrap(), Identity { uid: 7, gid: 8, ..Identity::default() });
        assert!(of("nobody").unwrap_err().to_string().contains("no user 'nobody' in /etc/passwd"));
        assert!(of("www:nobody").unwrap_err().to_string().contains("no group 'nobody' in /etc/group"));
    }
}
