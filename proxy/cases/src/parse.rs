//! Reads the table's language, strictly: an unknown word is an error that names its line.

use crate::{Case, Client, Destination, Endpoint, Row, Sees, Server, Setting, State, Want};

pub fn parse(text: &str) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line_number = at + 1;
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (head, rest) = line.split_once(':').map_or(("", line), |(h, r)| (h, r.trim()));
        if head == "case" {
            let title = rest.to_owned();
            let (config, service, endpoints, rows) = (vec![], vec![], vec![], vec![]);
            cases.push(Case { title, line: line_number, config, service, endpoints, rows });
            continue;
        }
        let case = cases.last_mut().ok_or("the table begins without a case")?;
        let done = match head {
            "config" => words(rest, setting).map(|w| case.config = w),
            "service" => words(rest, service_word).map(|w| case.service = w),
            "endpoints" => words(rest, endpoint).map(|w| case.endpoints = w),
            _ => rows(line, line_number).map(|r| case.rows.extend(r)),
        };
        done.map_err(|e| format!("line {line_number}: {e}"))?;
    }
    Ok(cases)
}

fn words<T>(text: &str, each: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split_whitespace().map(each).collect()
}

fn unknown<T>(what: &str, word: &str) -> Result<T, String> {
    Err(format!("unknown {what} {word:?}"))
}

fn setting(word: &str) -> Result<Setting, String> {
    Ok(match word {
        "masquerade-all" => Setting::MasqueradeAll,
        "node-ports-elsewhere" => Setting::NodePortsElsewhere,
        "pods-by-interface" => Setting::PodsByInterface,
        "no-pod-ranges" => Setting::NoPodRanges,
        _ => return unknown("setting", word),
    })
}

fn service_word(word: &str) -> Result<String, String> {
    const WORDS: &[&str] = &[
        "ClusterIP",
        "NodePort",
        "LoadBalancer",
        "ExternalName",
        "external=Local",
        "internal=Local",
        "affinity",
        "nodePort",
        "externalIP",
        "lb",
        "lb-proxied",
        "labelled",
        "headless",
    ];
    if WORDS.contains(&word) || word.starts_with("ranges=") { Ok(word.to_owned()) } else { unknown("word", word) }
}

fn endpoint(word: &str) -> Result<Endpoint, String> {
    let mut hints = word.split('~');
    let first = hints.next().unwrap_or_default();
    let (place, state) = first.split_once('!').unwrap_or((first, ""));
    let (name, here) = place.split_once('@').map_or((place, ""), |(name, at)| (name, at));
    let state = match state {
        "" => State::Ready,
        "unready" => State::Unready,
        "leaving" => State::Leaving,
        "serving" => State::Serving,
        "gone" => State::Gone,
        _ => return unknown("state", state),
    };
    if !matches!(here, "" | "here") {
        return unknown("place", here);
    }
    let hints: Vec<String> = hints.map(str::to_owned).collect();
    if let Some(hint) =
        hints.iter().find(|h| !matches!(h.as_str(), "zone-us" | "zone-other" | "node-us" | "node-other"))
    {
        return unknown("hint", hint);
    }
    Ok(Endpoint { name: letter(name)?, here: here == "here", state, hints })
}

fn letter(text: &str) -> Result<char, String> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c @ 'a'..='z'), None) => Ok(c),
        _ => unknown("name of an endpoint", text),
    }
}

fn rows(line: &str, number: usize) -> Result<Vec<Row>, String> {
    let (who, want) = line.split_once("->").ok_or("a row reads: clients destinations -> outcome")?;
    let mut who = who.split_whitespace();
    let (Some(from), Some(to), None) = (who.next(), who.next(), who.next()) else {
        return Err("a row reads: clients destinations -> outcome".to_owned());
    };
    let want = outcome(want.trim())?;
    let mut rows = Vec::new();
    for from in from.split(',') {
        for to in to.split(',') {
            rows.push(Row { line: number, from: client(from)?, to: destination(to)?, want: want.clone() });
        }
    }
    Ok(rows)
}

fn client(word: &str) -> Result<Client, String> {
    Ok(match word {
        "pod" => Client::Pod,
        "node" => Client::Node,
        "other-node" => Client::OtherNode,
        "outside" => Client::Outside,
        "node-as-lb" => Client::NodeAsLoadBalancer,
        _ => match word.strip_prefix("pod:") {
            Some(name) => Client::Endpoint(letter(name)?),
            None => return unknown("client", word),
        },
    })
}

fn destination(word: &str) -> Result<Destination, String> {
    Ok(match word {
        "clusterIP" => Destination::ClusterIp,
        "clusterIP:other-port" => Destination::ClusterIpOtherPort,
        "unallocated" => Destination::Unallocated,
        "nodePort" => Destination::NodePort,
        "nodePort:other-port" => Destination::NodePortOtherPort,
        "nodePort:loopback" => Destination::NodePortLoopback,
        "externalIP" => Destination::ExternalIp,
        "lb" => Destination::LoadBalancer,
        "lb-proxied" => Destination::LoadBalancerProxied,
        _ => match word.strip_prefix("pod:") {
            Some(name) => Destination::Endpoint(letter(name)?),
            None => return unknown("destination", word),
        },
    })
}

fn outcome(text: &str) -> Result<Want, String> {
    Ok(match text {
        "REJECT" => Want::Reject,
        "DROP" => Want::Drop,
        "UNTOUCHED" => Want::Untouched,
        "" => return Err("no outcome".to_owned()),
        _ => Want::Servers(words(text, |word| {
            let (name, sees) = word.strip_suffix('*').map_or((word, Sees::Sender), |name| (name, Sees::Machine));
            Ok(Server { name: letter(name)?, sees })
        })?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_speaks_of_endpoints_its_case_has_and_every_destination_is_there() {
        let cases = crate::cases();
        assert!(cases.len() > 40 && cases.iter().map(|c| c.rows.len()).sum::<usize>() > 200);
        for case in &cases {
            assert!(!case.rows.is_empty() && !case.service.is_empty(), "line {}", case.line);
            for row in &case.rows {
                let knows = |name: char| case.endpoints.iter().any(|e| e.name == name);
                let needs = match row.to {
                    Destination::ExternalIp => Some("externalIP"),
                    Destination::LoadBalancer => Some("lb"),
                    Destination::LoadBalancerProxied => Some("lb-proxied"),
                    Destination::NodePort => Some("nodePort"),
                    _ => None,
                };
                assert!(needs.is_none_or(|word| case.has(word)), "line {}: no such destination", row.line);
                if let Want::Servers(servers) = &row.want {
                    assert!(servers.iter().all(|s| knows(s.name)), "line {}: no such endpoint", row.line);
                }
            }
        }
    }

    #[test]
    fn what_is_not_of_the_language_is_refused_with_its_line() {
        for (text, error) in [
            ("case: x\nservice: Cluster", "line 2: unknown word \"Cluster\""),
            ("case: x\n  pod clusterIP a", "line 2: a row reads: clients destinations -> outcome"),
            ("case: x\n  pod cluster -> a", "line 2: unknown destination \"cluster\""),
            ("case: x\nendpoints: a@there", "line 2: unknown place \"there\""),
            ("pod clusterIP -> a", "the table begins without a case"),
        ] {
            assert_eq!(parse(text).expect_err(text), error);
        }
    }
}
