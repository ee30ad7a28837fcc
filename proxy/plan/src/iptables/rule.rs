//! One rule, read as the tools read it. Knows the matches and targets that our rules are made of; whatever else a rule
//! says is an error, since a walk that passed over it would tell an untruth.

use std::net::SocketAddr;

use pintle_nft::{Cidr, Family, Name, Proto};

use super::tables::Unreadable;

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As the tools list it.
    pub text: String,
    /// What must hold of a packet, in the order in which it is looked at.
    pub matches: Vec<Match>,
    /// What becomes of the packet then.
    pub target: Target,
}

/// What must hold of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// This does not.
    Not(Box<Match>),
    /// `-s`.
    Source(Cidr),
    /// `-d`.
    Destination(Cidr),
    /// `-i`: a name, or how it begins (`+`).
    Interface(String),
    /// `-p`.
    Proto(Proto),
    /// `--dport`.
    Port(u16),
    /// `-m addrtype --src-type LOCAL`.
    SourceIsOurs,
    /// `-m addrtype --dst-type LOCAL`.
    DestinationIsOurs,
    /// `-m mark`.
    Mark(Mark),
    /// `-m conntrack --ctstate`: whether a packet that begins a connection is meant.
    Begins(bool),
    /// `-m statistic --mode random`: by chance.
    Chance,
    /// `-m recent --rcheck`: the list knows the sender.
    Known(String),
    /// `-m recent --set`: the list knows it from now on.
    Remember(String),
}

/// Some bits of the packet's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Their value.
    pub value: u32,
    /// Which.
    pub mask: u32,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Another chain, and if that decides nothing the next rule.
    Chain(Name),
    /// Back to where the chain was entered.
    Return,
    /// Past this hook.
    Accept,
    /// Nothing, without a word.
    Drop,
    /// Nothing, and the sender is told.
    Reject,
    /// These bits are cleared, and those flipped.
    SetMark(Mark),
    /// Another destination.
    Translate(SocketAddr),
    /// This machine's source address.
    Masquerade,
}

impl Rule {
    /// Reads a rule as it is listed, without its chain.
    ///
    /// # Errors
    /// When it says something that is not known here.
    pub fn read(family: Family, text: &str) -> Result<Self, Unreadable> {
        let mut reader = Reader { family, words: words(text), text, matches: Vec::new() };
        let target = reader.rule()?;
        Ok(Self { text: text.to_owned(), matches: reader.matches, target })
    }
}

/// The words of a rule; what stands between quotes is one.
fn words(text: &str) -> std::vec::IntoIter<String> {
    let mut words = Vec::new();
    for (n, part) in text.split('"').enumerate() {
        if n % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words.into_iter()
}

struct Reader<'a> {
    family: Family,
    words: std::vec::IntoIter<String>,
    text: &'a str,
    matches: Vec<Match>,
}

impl Reader<'_> {
    fn unknown(&self, what: &str) -> Unreadable {
        Unreadable::new(format!("{what} is not understood"), self.text)
    }

    fn word(&mut self) -> Result<String, Unreadable> {
        self.words.next().ok_or_else(|| Unreadable::new("it ends too soon", self.text))
    }

    /// The next word as something.
    fn parse<T: std::str::FromStr>(&mut self) -> Result<T, Unreadable> {
        let word = self.word()?;
        word.parse().map_err(|_not_one| self.unknown(&word))
    }

    /// The next word, which can only be this one.
    fn exactly(&mut self, word: &str) -> Result<(), Unreadable> {
        let got = self.word()?;
        if got == word { Ok(()) } else { Err(self.unknown(&got)) }
    }

    fn rule(&mut self) -> Result<Target, Unreadable> {
        loop {
            let word = self.word()?;
            if word == "-j" {
                let target = self.target()?;
                return match self.words.next() {
                    None => Ok(target),
                    Some(more) => Err(self.unknown(&more)),
                };
            }
            let (negated, word) = if word == "!" { (true, self.word()?) } else { (false, word) };
            if let Some(found) = self.one(&word)? {
                self.matches.push(if negated { Match::Not(Box::new(found)) } else { found });
            }
        }
    }

    /// What a word begins; `None` for what holds of every packet.
    fn one(&mut self, word: &str) -> Result<Option<Match>, Unreadable> {
        Ok(Some(match word {
            "-s" => Match::Source(self.parse()?),
            "-d" => Match::Destination(self.parse()?),
            "-i" => Match::Interface(self.word()?),
            "-p" => Match::Proto(self.proto()?),
            "-m" => return self.module(),
            // Of the module named before.
            "--dport" => Match::Port(self.parse()?),
            _ => return Err(self.unknown(word)),
        }))
    }

    fn proto(&mut self) -> Result<Proto, Unreadable> {
        let word = self.word()?;
        let all = [Proto::Tcp, Proto::Udp, Proto::Sctp];
        all.into_iter().find(|p| p.name() == word).ok_or_else(|| self.unknown(&word))
    }

    fn module(&mut self) -> Result<Option<Match>, Unreadable> {
        let module = self.word()?;
        Ok(match module.as_str() {
            "comment" => {
                self.exactly("--comment")?;
                self.word()?;
                None
            }
            // Their words come next.
            "tcp" | "udp" | "sctp" => None,
            "mark" => Some(self.marked()?),
            "addrtype" => Some(self.addrtype()?),
            "conntrack" => {
                self.exactly("--ctstate")?;
                Some(Match::Begins(self.word()?.split(',').any(|state| state == "NEW")))
            }
            "statistic" => {
                ["--mode", "random", "--probability"].iter().try_for_each(|word| self.exactly(word))?;
                self.parse::<f64>()?;
                Some(Match::Chance)
            }
            "recent" => Some(self.recent()?),
            _ => return Err(self.unknown(&module)),
        })
    }

    fn marked(&mut self) -> Result<Match, Unreadable> {
        let word = self.word()?;
        let negated = word == "!";
        if negated {
            self.exactly("--mark")?;
        } else if word != "--mark" {
            return Err(self.unknown(&word));
        }
        let mark = Match::Mark(self.mark()?);
        Ok(if negated { Match::Not(Box::new(mark)) } else { mark })
    }

    fn mark(&mut self) -> Result<Mark, Unreadable> {
        let word = self.word()?;
        let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        let both = word.split_once('/').and_then(|(value, mask)| Some((number(value)?, number(mask)?)));
        both.map(|(value, mask)| Mark { value, mask }).ok_or_else(|| self.unknown(&word))
    }

    fn addrtype(&mut self) -> Result<Match, Unreadable> {
        let which = self.word()?;
        self.exactly("LOCAL")?;
        match which.as_str() {
            "--src-type" => Ok(Match::SourceIsOurs),
            "--dst-type" => Ok(Match::DestinationIsOurs),
            _ => Err(self.unknown(&which)),
        }
    }

    /// Lists of senders, whole addresses each.
    fn recent(&mut self) -> Result<Match, Unreadable> {
        let what = self.word()?;
        if what == "--rcheck" {
            self.exactly("--seconds")?;
            self.parse::<u32>()?;
            self.exactly("--reap")?;
        }
        self.exactly("--name")?;
        let list = self.word()?;
        self.exactly("--mask")?;
        let whole = Cidr::default_route(self.family).last().to_string();
        self.exactly(&whole)?;
        self.exactly("--rsource")?;
        match what.as_str() {
            "--rcheck" => Ok(Match::Known(list)),
            "--set" => Ok(Match::Remember(list)),
            _ => Err(self.unknown(&what)),
        }
    }

    fn target(&mut self) -> Result<Target, Unreadable> {
        let target = self.word()?;
        Ok(match target.as_str() {
            "RETURN" => Target::Return,
            "ACCEPT" => Target::Accept,
            "DROP" => Target::Drop,
            "REJECT" => {
                self.exactly("--reject-with")?;
                self.word()?;
                Target::Reject
            }
            "MARK" => {
                self.exactly("--set-xmark")?;
                Target::SetMark(self.mark()?)
            }
            "DNAT" => {
                self.exactly("--to-destination")?;
                Target::Translate(self.parse()?)
            }
            "MASQUERADE" => {
                self.exactly("--random-fully")?;
                Target::Masquerade
            }
            chain => Target::Chain(chain.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_not_understood_is_an_error_that_quotes_it() {
        for (rule, why) in [
            ("-s 10.0.0.0/8 -m limit --limit 1/s -j DROP", "limit is not understood"),
            ("-s 10.0.0.0/33 -j DROP", "10.0.0.0/33 is not understood"),
            ("-p icmp -j DROP", "icmp is not understood"),
            ("-m recent --rcheck --seconds 5 --name x -j DROP", "--name is not understood"),
            ("-j DNAT --to-destination 10.0.0.1:80 --random", "--random is not understood"),
            ("-j MASQUERADE", "it ends too soon"),
            ("-s 10.0.0.1/32", "it ends too soon"),
        ] {
            assert_eq!(Rule::read(Family::V4, rule), Err(Unreadable::new(why, rule)));
        }
    }

    #[test]
    fn a_rule_is_read_in_order() {
        let text = "! -s 10.42.0.0/16 -d 10.43.0.10/32 -p tcp -m tcp --dport 80 -m comment --comment \"d/web -> a\" \
                    -m mark ! --mark 0x4000/0x4000 -j KUBE-MARK-MASQ";
        let rule = Rule::read(Family::V4, text).unwrap();
        assert_eq!(
            rule.matches,
            [
                Match::Not(Box::new(Match::Source("10.42.0.0/16".parse().unwrap()))),
                Match::Destination("10.43.0.10/32".parse().unwrap()),
                Match::Proto(Proto::Tcp),
                Match::Port(80),
                Match::Not(Box::new(Match::Mark(Mark { value: 0x4000, mask: 0x4000 }))),
            ]
        );
        assert_eq!(rule.target, Target::Chain("KUBE-MARK-MASQ".into()));
    }
}
