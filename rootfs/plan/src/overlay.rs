//! How a container's root is mounted: the overlay options, and the order in which ways of mounting are tried.
//!
//! mount(2) takes one page of option text, which about 37 absolute layer paths fill. Beyond it the layers are given
//! one by one through fsconfig(2) (`lowerdir+`, Linux 6.8), and on older kernels by short names of open descriptors.

use std::path::{Path, PathBuf};

/// mount(2): "data … at most one page", the terminating zero included.
const OPTIONS_LENGTH_MAX: usize = 4095;
/// fs/overlayfs/ovl_entry.h, `OVL_MAX_STACK`.
pub const LOWER_MAX: usize = 500;

/// What may happen to the mounted tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Changes go to the snapshot's own upper directory and vanish with it.
    #[default]
    ReadWrite,
    /// No upper directory: for image volumes.
    ReadOnly,
}

/// The directories of one mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayRequest<'a> {
    /// Unpacked layers, bottom first.
    pub layers: &'a [PathBuf],
    /// The snapshot's own `upper` and `work`.
    pub upper: &'a Path,
    /// Must be on the same file system as `upper`.
    pub work: &'a Path,
    /// An empty directory, laid on top of a read-only stack: overlayfs wants two lowers when there is no upper.
    pub empty: &'a Path,
    /// Whether there is an upper.
    pub access: Access,
}

/// One way to mount; the edge tries them in order while the kernel answers EINVAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// mount(2) with this option text.
    Classic {
        /// Comma-separated overlay options.
        options: String,
    },
    /// fsopen(2) and one fsconfig(2) per option.
    Appended {
        /// Key and value; an empty value is a flag.
        options: Vec<(&'static str, String)>,
    },
    /// mount(2) naming `/proc/self/fd/<n>` in place of the lowers, which the edge opens first.
    Descriptors {
        /// Top first.
        lowers: Vec<PathBuf>,
        /// The options besides `lowerdir`.
        options: String,
    },
}

/// Why a root cannot be mounted as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// More layers than overlayfs stacks.
    #[error("the image has {layers} layers; overlayfs stacks at most {LOWER_MAX}")]
    TooManyLayers {
        /// Layers of the image.
        layers: usize,
    },
}

/// Decides the attempts, best first. `volatile` (Linux 5.10) spares every fsync inside the container: its upper never
/// outlives it, so there is nothing to make durable; older kernels refuse it and get the attempts without.
pub fn plan(request: &OverlayRequest<'_>) -> Result<Vec<Attempt>, OverlayError> {
    let mut lowers: Vec<PathBuf> = request.layers.iter().rev().cloned().collect();
    let mut uppers = vec![Vec::new()];
    match request.access {
        Access::ReadWrite => {
            let dirs = vec![("upperdir", text(request.upper)), ("workdir", text(request.work))];
            uppers = vec![with_volatile(&dirs), dirs];
            if lowers.is_empty() {
                lowers.push(request.empty.to_owned());
            }
        }
        Access::ReadOnly => {
            lowers.insert(0, request.empty.to_owned());
            // The kernel refuses one directory twice in a stack (ELOOP); the unused upper is empty as well.
            if lowers.len() == 1 {
                lowers.push(request.upper.to_owned());
            }
        }
    }
    if lowers.len() > LOWER_MAX {
        return Err(OverlayError::TooManyLayers { layers: request.layers.len() });
    }
    Ok(uppers.iter().flat_map(|upper| attempts(&lowers, upper)).collect())
}

type Options = Vec<(&'static str, String)>;

fn with_volatile(dirs: &Options) -> Options {
    let mut options = dirs.clone();
    options.push(("volatile", String::new()));
    options
}

fn attempts(lowers: &[PathBuf], upper: &Options) -> Vec<Attempt> {
    let lowerdir: Vec<String> = lowers.iter().map(|lower| escape(&text(lower), &[':', ','])).collect();
    let rest = join(upper);
    let joined = format!("lowerdir={}", lowerdir.join(":"));
    let options = if rest.is_empty() { joined } else { format!("{joined},{rest}") };
    if options.len() <= OPTIONS_LENGTH_MAX {
        return vec![Attempt::Classic { options }];
    }
    let mut appended: Options = lowers.iter().map(|lower| ("lowerdir+", text(lower))).collect();
    appended.extend(upper.iter().cloned());
    vec![Attempt::Appended { options: appended }, Attempt::Descriptors { lowers: lowers.to_vec(), options: rest }]
}

fn join(options: &Options) -> String {
    let word = |(key, value): &(&str, String)| {
        if value.is_empty() { (*key).to_owned() } else { format!("{key}={}", escape(value, &[','])) }
    };
    options.iter().map(word).collect::<Vec<_>>().join(",")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Overlayfs takes a backslash before what would otherwise separate (Documentation/filesystems/overlayfs.rst).
fn escape(text: &str, separators: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\\' || separators.contains(&c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn plan_for(layers: &[&str], access: Access) -> Vec<Attempt> {
        let layers: Vec<PathBuf> = layers.iter().map(PathBuf::from).collect();
        let (upper, work, empty) = (Path::new("/s/c/upper"), Path::new("/s/c/work"), Path::new("/s/c/empty"));
        plan(&OverlayRequest { layers: &layers, upper, work, empty, access }).unwrap()
    }

    #[test]
    fn the_top_layer_comes_first_and_volatile_is_tried_before_plain() {
        insta::assert_snapshot!(format!("{:#?}", plan_for(&["/l/bottom", "/l/top"], Access::ReadWrite)), @r#"
        [
            Classic {
                options: "lowerdir=/l/top:/l/bottom,upperdir=/s/c/upper,workdir=/s/c/work,volatile",
            },
            Classic {
                options: "lowerdir=/l/top:/l/bottom,upperdir=/s/c/upper,workdir=/s/c/work",
            },
        ]
        "#);
    }

    #[test]
    fn a_read_only_stack_has_no_upper_and_at_least_two_lowers() {
        insta::assert_snapshot!(format!("{:?}", plan_for(&["/l/a"], Access::ReadOnly)), @r#"[Classic { options: "lowerdir=/s/c/empty:/l/a" }]"#);
        insta::assert_snapshot!(format!("{:?}", plan_for(&[], Access::ReadOnly)), @r#"[Classic { options: "lowerdir=/s/c/empty:/s/c/upper" }]"#);
    }

    #[test]
    fn separators_in_paths_are_escaped() {
        insta::assert_snapshot!(format!("{:?}", plan_for(&["/l/a:b,c"], Access::ReadOnly)), @r#"[Classic { options: "lowerdir=/s/c/empty:/l/a\\:b\\,c" }]"#);
    }

    #[test]
    fn a_list_longer_than_a_page_is_appended_layer_by_layer() {
        let paths: Vec<String> = (0..60).map(|n| format!("/store/layers/{n:064}/fs")).collect();
        let layers: Vec<&str> = paths.iter().map(String::as_str).collect();
        let attempts = plan_for(&layers, Access::ReadWrite);
        let kinds: Vec<&str> = attempts
            .iter()
            .map(|attempt| match attempt {
                Attempt::Classic { .. } => "classic",
                Attempt::Appended { .. } => "appended",
                Attempt::Descriptors { .. } => "descriptors",
            })
            .collect();
        assert_eq!(kinds, ["appended", "descriptors", "appended", "descriptors"]);
    }

    #[test]
    fn more_layers_than_the_kernel_stacks_are_refused() {
        let layers = vec![PathBuf::from("/l"); LOWER_MAX + 1];
        let here = Path::new("/x");
        let request =
            OverlayRequest { layers: &layers, upper: here, work: here, empty: here, access: Access::ReadWrite };
        assert_eq!(plan(&request), Err(OverlayError::TooManyLayers { layers: LOWER_MAX + 1 }));
    }
}
