//! The vote of a group's member: which term it is in and whom it voted for, as the log keeps it.
//!
//! A lone node votes for itself in a new term at each start, so that no two runs ever write
//! entries of one term and index that differ.
//!
//! ```text
//!  0  1  version: 1
//!  1  1  1 when a majority granted it: the voter is the term's leader; else 0
//!  2  6  reserved
//!  8  8  term, little-endian
//! 16  8  the node voted for, little-endian
//! 24 16  boot of the machine under which it was cast
//! ```

use cairn_protocol::ids::{NodeId, Term};

const VERSION: u8 = 1;
const BYTES: usize = 40;

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The term it was cast in.
    pub term: Term,
    /// Whom it was cast for.
    pub node: NodeId,
    /// Whether a majority granted it, so that `node` leads the term.
    pub committed: bool,
    /// The boot of the machine, or zeros.
    pub boot_id: [u8; 16],
}

impl Vote {
    /// The bytes that the log keeps.
    pub fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0] = VERSION;
        bytes[1] = u8::from(self.committed);
        bytes[8..16].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.node.0.to_le_bytes());
        bytes[24..].copy_from_slice(&self.boot_id);
        bytes
    }

    /// Reads what [`Vote::encode`] wrote; None for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Vote> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        if bytes[0] != VERSION || bytes[1] > 1 || bytes[2..8] != [0; 6] {
            return None;
        }
        let word = |at: usize| -> Option<u64> {
            bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
        };
        let boot_id = bytes[24..].try_into().ok()?;
        let (term, node) = (Term(word(8)?), NodeId(word(16)?));
        Some(Vote { term, node, committed: bytes[1] == 1, boot_id })
    }
}

/// Whether a member of a group still has what it promised the others: entries that it said were
/// durable, votes that it gave. It must not come back under its id without them: a majority could
/// then be one that never was. `is_empty`: it was a voter and nothing lies here. `is_lazy`: entries
/// were called durable before the medium had them, so that they are gone if the machine went down.
///
/// # Errors
/// What it has lost, and what to do.
pub fn check_kept(
    is_empty: bool,
    vote: Option<Vote>,
    boot_id: [u8; 16],
    is_lazy: bool,
) -> Result<(), String> {
    const REJOIN: &str = "let it join again as a new member: start it with an empty --dir (move what \
                          lies there aside first)";
    if is_empty {
        return Err(format!(
            "this node was a voter of its cluster, and its pool and log are gone: {REJOIN}"
        ));
    }
    let was = vote.map_or(boot_id, |vote| vote.boot_id);
    if is_lazy && was != boot_id && was != [0; 16] && boot_id != [0; 16] {
        return Err(format!(
            "the machine was started anew since this member last ran, with --durability everysec: \
             the last second of what it acknowledged may be gone. {REJOIN}. Only if a majority of \
             the members went down with it, and none has more: start them once with --durability \
             always, which takes what is there for all there was"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_reads_back_and_nothing_else_does() {
        let vote =
            Vote { term: Term(7), node: NodeId(u64::MAX), committed: true, boot_id: [3; 16] };
        assert_eq!(Vote::decode(&vote.encode()), Some(vote));
        let mut bytes = vote.encode();
        assert_eq!(Vote::decode(&bytes[..39]), None);
        bytes[1] = 2;
        assert_eq!(Vote::decode(&bytes), None);
        bytes[1] = 0;
        assert_eq!(Vote::decode(&bytes), Some(Vote { committed: false, ..vote }));
        bytes[0] = 2;
        assert_eq!(Vote::decode(&bytes), None);
    }

    #[test]
    fn who_has_lost_what_it_promised_does_not_come_back() {
        let vote = |boot| Vote { term: Term(7), node: NodeId(1), committed: true, boot_id: boot };
        let kept = |vote, boot, is_lazy| check_kept(false, vote, boot, is_lazy);
        assert!(check_kept(true, None, [1; 16], false).is_err());
        let reason = kept(Some(vote([2; 16])), [1; 16], true).expect_err("rebooted");
        assert!(reason.contains("--durability always"), "{reason}");
        for (vote, boot, is_lazy) in [
            (None, [1; 16], true),
            (Some(vote([1; 16])), [1; 16], true),
            (Some(vote([2; 16])), [1; 16], false),
            (Some(vote([0; 16])), [1; 16], true),
            (Some(vote([2; 16])), [0; 16], true),
        ] {
            assert_eq!(kept(vote, boot, is_lazy), Ok(()), "{vote:?} {boot:?} {is_lazy}");
        }
    }
}
