//! Sets of indexes in the form `0,2-4`.

use std::collections::BTreeSet;

pub(super) fn parse(text: &str) -> BTreeSet<usize> {
    let mut set = BTreeSet::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            set.extend(first..=last);
        }
    }
    set
}

/// Runs of two are written `0,1`, of three and more `0-2`, as Kubernetes does.
pub(super) fn format(set: &BTreeSet<usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &index in set {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => runs.push((index, index)),
        }
    }
    let written = |&(first, last): &(usize, usize)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    runs.iter().map(written).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::{format, parse};

    #[test]
    fn indexes_are_written_as_runs_and_read_back() {
        for text in ["", "0", "0,1", "0-2", "0,2-4,7,8"] {
            assert_eq!(format(&parse(text)), text);
        }
    }
}
