//! Lists of cpus and memory nodes (`0-3,7`, cpuset(7)), as bit masks.

/// More cpus or nodes than any kernel is built for.
const MOST: usize = 8192;

/// The mask of a list: bit n of word n / 64. An empty list, a backward range or a number that no kernel could mean is
/// an error, told in words.
pub fn mask(list: &str) -> Result<Vec<u64>, String> {
    let mut words: Vec<u64> = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < MOST);
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(format!("{part:?} is neither a number nor a range"));
        };
        if first > last {
            return Err(format!("{part:?} runs backwards"));
        }
        if words.len() <= last / 64 {
            words.resize(last / 64 + 1, 0);
        }
        (first..=last).for_each(|n| words[n / 64] |= 1 << (n % 64));
    }
    if words.is_empty() { Err(format!("{list:?} names nothing")) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_masks() {
        let table: [(&str, Option<Vec<u64>>); 8] = [
            ("0", Some(vec![1])),
            ("0-3,7", Some(vec![0x8f])),
            (" 1 , 64-65 ", Some(vec![2, 3])),
            ("", None),
            (",", None),
            ("3-1", None),
            ("a", None),
            ("99999999", None),
        ];
        for (list, expected) in table {
            assert_eq!(mask(list).ok(), expected, "{list:?}");
        }
    }
}
