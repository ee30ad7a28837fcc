//! The members of sets that packets fill: which client is bound to which server. Owns reading them with what is left
//! of their time, and putting them into another table, so that a table can be replaced without forgetting anybody.

use pintle_nft::TableId;

use super::encode::{BATCH_BEGIN, BATCH_END, SUBSYSTEM, kind, msg};
use super::wire::{Attrs, Message, Writer, flag, nfproto};
use super::{Nft, NftError, dump};

/// `NFT_SET_TIMEOUT` of linux/netfilter/nf_tables.h: packets add members, time removes them.
const SET_TIMEOUT: u32 = 0x10;
/// Members of one message; the list of them must fit 64 KiB.
const PER_MESSAGE: usize = 500;

/// A member of a set that packets fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The key.
    pub key: Vec<u8>,
    /// How long it stays without being renewed, in milliseconds; `None` for the set's own default.
    pub timeout_ms: Option<u64>,
    /// What is left of that.
    pub expires_ms: u64,
}

impl Nft {
    /// The names of the table's sets that packets fill. A table that is not there has none.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn filled_sets(&mut self, table: &TableId) -> Result<Vec<String>, NftError> {
        if !self.table_exists(table)? {
            return Ok(Vec::new());
        }
        let sequence = self.next_sequence();
        let mut names = Vec::new();
        dump(
            self.socket(),
            kind(msg::GETSET),
            sequence,
            nfproto(table.family),
            |w| w.text(1, &table.name),
            |message| {
                let attrs = message.attrs();
                let is_filled = attrs.u32(3).is_some_and(|flags| flags & SET_TIMEOUT != 0);
                if is_filled && attrs.text(1) == Some(&table.name) {
                    names.extend(attrs.text(2).map(ToOwned::to_owned));
                }
            },
        )?;
        Ok(names)
    }

    /// The members of a set.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn members(&mut self, table: &TableId, set: &str) -> Result<Vec<Member>, NftError> {
        let sequence = self.next_sequence();
        let mut members = Vec::new();
        let ask = |w: &mut Writer| {
            w.text(1, &table.name);
            w.text(2, set);
        };
        dump(self.socket(), kind(msg::GETSETELEM), sequence, nfproto(table.family), ask, |message| {
            members.extend(of(message));
        })?;
        Ok(members)
    }

    /// Puts members into sets of a table, in one transaction. Those that are there already stay as they are.
    ///
    /// # Errors
    /// When the kernel refuses, or a set is not there.
    pub fn remember(&mut self, table: &TableId, sets: &[(&str, &[Member])]) -> Result<(), NftError> {
        let mut w = Writer::default();
        let marker = |w: &mut Writer, kind, sequence| {
            w.begin(kind, 0, sequence, 0, SUBSYSTEM);
            w.end();
        };
        marker(&mut w, BATCH_BEGIN, self.next_sequence());
        let (mut messages, mut last) = (0, 0);
        for (set, members) in sets {
            for some in members.chunks(PER_MESSAGE) {
                last = self.next_sequence();
                messages += 1;
                w.begin(kind(msg::NEWSETELEM), flag::CREATE, last, nfproto(table.family), 0);
                w.text(1, &table.name);
                w.text(2, set);
                w.nested(3, |w| some.iter().for_each(|m| write(w, m)));
                w.end();
            }
        }
        if messages == 0 {
            return Ok(());
        }
        w.add_flags(flag::ACK);
        marker(&mut w, BATCH_END, self.next_sequence());
        self.deliver(&w.bytes, last)
    }
}

/// The members a message tells of.
pub(super) fn of<'a>(message: &Message<'a>) -> impl Iterator<Item = Member> + use<'a> {
    let list = message.attrs().nested(3).into_iter().flatten();
    list.filter_map(|(_, element)| read(Attrs(element)))
}

fn read(element: Attrs<'_>) -> Option<Member> {
    let key = element.nested(1)?.get(1)?.to_vec();
    Some(Member { key, timeout_ms: element.u64(4), expires_ms: element.u64(5)? })
}

pub(super) fn write(w: &mut Writer, member: &Member) {
    w.nested(1, |w| {
        w.nested(1, |w| w.attr(1, &member.key));
        if let Some(timeout_ms) = member.timeout_ms {
            w.u64(4, timeout_ms);
        }
        w.u64(5, member.expires_ms.max(1));
    });
}
