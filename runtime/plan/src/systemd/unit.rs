//! `linux.cgroupsPath` in systemd's way: `slice:prefix:name`.

use serde::{Deserialize, Serialize};

/// Whose service manager makes the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// The machine's, process 1.
    System,
    /// The calling user's.
    User,
}

/// A container's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// `prefix-name.scope`, or a slice.
    pub name: String,
    /// The slice it is in.
    pub slice: String,
    /// What its description calls it.
    pub label: String,
}

/// A `linux.cgroupsPath` that names no unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not three parts.
    #[error("linux.cgroupsPath: expected to be of format \"slice:prefix:name\" for systemd cgroups, got {0:?} instead")]
    Format(String),
    /// systemd.slice(5).
    #[error("linux.cgroupsPath: invalid slice name: {0:?} (the form is a-b.slice, which lies in a.slice)")]
    Slice(String),
    /// systemd.unit(5).
    #[error("linux.cgroupsPath: {0:?} cannot be the name of a unit (letters, digits and :-_.\\ only, at most 255)")]
    Name(String),
}

/// Scopes of containers that name none are called by this and their id.
const PREFIX: &str = "pintle";

impl Unit {
    /// Reads a `linux.cgroupsPath`; empty or absent parts get defaults.
    pub fn locate(path: Option<&str>, id: &str, manager: Manager) -> Result<Unit, UnitError> {
        let path = path.filter(|path| !path.is_empty());
        let (slice, prefix, label) = match path {
            None => ("", PREFIX, id),
            Some(path) => match path.split(':').collect::<Vec<_>>()[..] {
                [slice, prefix, name] => (slice, prefix, name),
                _ => return Err(UnitError::Format(path.to_owned())),
            },
        };
        let default = match manager {
            Manager::System => "system.slice",
            Manager::User => "user.slice",
        };
        let slice = if slice.is_empty() { default } else { slice };
        let name = if label.ends_with(".slice") { label.to_owned() } else { format!("{prefix}-{label}.scope") };
        let unit = Unit { name, slice: slice.to_owned(), label: label.to_owned() };
        unit.check()?;
        Ok(unit)
    }

    fn check(&self) -> Result<(), UnitError> {
        expand(&self.slice)?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\".contains(&b);
        if self.is_slice() {
            expand(&self.name)?;
        }
        if self.label.is_empty() || self.name.len() > 255 || !self.name.bytes().all(allowed) {
            return Err(UnitError::Name(self.name.clone()));
        }
        Ok(())
    }

    /// Whether it is a slice rather than a scope.
    pub fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// Its cgroup below its manager's. A slice's place follows from its own name alone.
    pub fn directory(&self) -> Result<String, UnitError> {
        if self.is_slice() {
            return expand(&self.name);
        }
        let slice = expand(&self.slice)?;
        Ok(if slice.is_empty() { self.name.clone() } else { format!("{slice}/{}", self.name) })
    }
}

/// Where a slice is: `a-b.slice` is `a.slice/a-b.slice`, and `-.slice` the root (systemd.slice(5)).
fn expand(slice: &str) -> Result<String, UnitError> {
    let refused = || UnitError::Slice(slice.to_owned());
    let name = slice.strip_suffix(".slice").filter(|name| !name.contains('/')).ok_or_else(refused)?;
    if name == "-" {
        return Ok(String::new());
    }
    if name.split('-').any(str::is_empty) {
        return Err(refused());
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    let levels: Vec<String> = ends.map(|end| format!("{}.slice", &name[..end])).collect();
    Ok(levels.join("/"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn paths_name_units_and_their_place() {
        let table = [
            (None, "pintle-c1.scope", "system.slice/pintle-c1.scope"),
            (Some(""), "pintle-c1.scope", "system.slice/pintle-c1.scope"),
            (Some("system.slice:docker:ab"), "docker-ab.scope", "system.slice/docker-ab.scope"),
            (Some(":p:n"), "p-n.scope", "system.slice/p-n.scope"),
            (Some("::n"), "-n.scope", "system.slice/-n.scope"),
            (Some("-.slice:p:n"), "p-n.scope", "p-n.scope"),
            (
                Some("kubepods-burstable-pod1_2.slice:cri-containerd:f00"),
                "cri-containerd-f00.scope",
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-f00.scope",
            ),
            (Some("a.slice::a-b.slice"), "a-b.slice", "a.slice/a-b.slice"),
        ];
        for (path, name, directory) in table {
            let unit = Unit::locate(path, "c1", Manager::System).unwrap();
            assert_eq!((unit.name.as_str(), unit.directory().unwrap().as_str()), (name, directory), "{path:?}");
        }
        assert_eq!(Unit::locate(None, "c1", Manager::User).unwrap().directory().unwrap(), "user.slice/pintle-c1.scope");
    }

    #[test]
    fn what_names_no_unit_is_refused_by_its_field() {
        let table = [
            "/kubepods/pod1/c",
            "a:b",
            "a:b:c:d",
            "a:b:c",
            ".slice:b:c",
            "a--b.slice:b:c",
            "-a.slice:b:c",
            "a-.slice:b:c",
            "a/b.slice:b:c",
            "a.slice:b/../..:c",
            "a.slice:b:c d",
            "a.slice:b:",
            "a.slice:b:x--y.slice",
            "a.slice:b:c+d",
        ];
        for path in table {
            let error = Unit::locate(Some(path), "c1", Manager::System).unwrap_err().to_string();
            assert!(error.starts_with("linux.cgroupsPath: "), "{path}: {error}");
        }
        let long = format!("a.slice:b:{}", "x".repeat(255));
        assert!(matches!(Unit::locate(Some(&long), "c1", Manager::System), Err(UnitError::Name(_))));
    }
}
