//! How a cluster is born from equal command lines, exactly once, and how a node joins one.
//!
//! A node that belongs to no cluster introduces itself to every address of `--join`, again and
//! again. Who finds a cluster there asks to join it. When `--expect` nodes, none of which has a
//! cluster, have all met the same nodes, the one with the least id among them founds: it keeps the
//! new cluster and its members before it tells anybody, so that it goes on with the same ones after
//! a crash. Those it tells keep them before they answer. Two cannot found: a set has one least id,
//! and whoever belongs to a cluster counts in no other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_protocol::cluster::message::{Found, Founded, Introduce, Join, Joined, Member};
use cairn_protocol::cluster::{Reply, Request};
use cairn_protocol::ids::{ClusterId, NodeId};
use parking_lot::Mutex;

use super::identity::{Identity, IdentityFile};
use crate::ops::config::PEER_PORT_OFFSET;
use crate::ops::{clock, entropy};
use crate::transport::{CallError, SharedTransport};

/// Between two rounds of introductions.
const ROUND: Duration = Duration::from_millis(200);
/// Between two lines that say the same while a node waits for the others.
const SAID_AGAIN: Duration = Duration::from_secs(10);
/// A first member that is up hears of the birth within this time.
const HEARS_WITHIN: Duration = Duration::from_secs(10);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_millis(1500);

/// Why a node that comes back under its id without what it had is not taken in.
const LOST: &str = "a member of the cluster has the id of this node's certificate, and what it had is \
                    not in --dir: restore that, or have a certificate with another id issued";

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct Plan {
    /// HOST:PORT at which peers reach it.
    pub advertise: String,
    /// The addresses of `--join`; its own may be among them.
    pub join: Vec<String>,
    /// How many nodes a new cluster waits for; 0: none is to be born of this node.
    pub expect: u32,
    /// Bytes it offers.
    pub capacity_bytes: u64,
}

/// Another node, as it last introduced itself.
#[derive(Clone, Debug)]
struct Seen {
    node: NodeId,
    cluster: ClusterId,
    expect: u32,
    met: Vec<NodeId>,
}

/// A node's part in its cluster's birth.
pub struct Birth {
    plan: Plan,
    file: Mutex<IdentityFile>,
    /// By address.
    seen: Mutex<BTreeMap<String, Seen>>,
    /// Why others were not met, by address.
    unmet: Mutex<BTreeMap<String, String>>,
    /// When it was first said that this node's id is a member's.
    lost_since: Mutex<Option<Instant>>,
}

impl Birth {
    /// Of the node in `file`.
    pub fn new(plan: Plan, file: IdentityFile) -> Birth {
        let (seen, unmet, lost_since) = Default::default();
        Birth { plan, file: Mutex::new(file), seen, unmet, lost_since }
    }

    /// Who this node is by now.
    pub fn identity(&self) -> Identity {
        self.file.lock().identity.clone()
    }

    fn me(&self) -> Member {
        Member { node: self.identity().node, address: self.plan.advertise.clone() }
    }

    /// What this node says of itself.
    fn introduction(&self) -> Introduce {
        let Identity { node, cluster, .. } = self.identity();
        let me = Member { node, address: self.plan.advertise.clone() };
        let others = self.seen.lock();
        let others = others
            .iter()
            .map(|(address, seen)| Member { node: seen.node, address: address.clone() });
        let met = others.chain([me.clone()]).collect();
        Introduce { member: me, expect: self.plan.expect, shards: 1, cluster, met }
    }

    /// Answers an introduction.
    pub fn introduce(&self, from: NodeId, other: &Introduce) -> Introduce {
        self.note(from, other);
        self.introduction()
    }

    fn note(&self, node: NodeId, other: &Introduce) {
        let Introduce { member, expect, cluster, met, .. } = other;
        if node == self.identity().node || member.node != node {
            return;
        }
        let met = met.iter().map(|member| member.node).collect();
        let seen = Seen { node, cluster: *cluster, expect: *expect, met };
        self.seen.lock().insert(member.address.clone(), seen);
    }

    /// Answers who says that a cluster is born.
    ///
    /// # Errors
    /// That this node belongs to it could not be kept.
    pub fn found(&self, found: &Found) -> Result<Founded, String> {
        let mut file = self.file.lock();
        let identity = file.identity.clone();
        let is_member = found.members.iter().any(|member| member.node == identity.node);
        if identity.cluster.is_none()
            && is_member
            && self.plan.expect as usize == found.members.len()
        {
            file.keep(born(identity, found.cluster, found.members.clone()))?;
        }
        Ok(Founded { cluster: file.identity.cluster })
    }

    /// Introduces this node until it belongs to a cluster. Whatever it is to be told meanwhile comes
    /// by [`Birth::found`].
    ///
    /// # Errors
    /// Its identity could not be kept.
    pub async fn seek(&self, transport: &SharedTransport) -> Result<Identity, String> {
        let (mut told, mut told_at) = (self.progress(), clock::now());
        tracing::info!("{told}");
        loop {
            for address in self.plan.join.iter().filter(|at| **at != self.plan.advertise) {
                self.meet(transport, address).await?;
                if !self.identity().cluster.is_none() {
                    break;
                }
            }
            self.found_if_all_agree()?;
            let identity = self.identity();
            if !identity.cluster.is_none() {
                transport.set_cluster(identity.cluster);
                return Ok(identity);
            }
            let progress = self.progress();
            if progress != told {
                tracing::info!("{progress}");
                (told, told_at) = (progress, clock::now());
            } else if told_at.elapsed() > SAID_AGAIN {
                tracing::warn!("{told}{}", why_not(&self.unmet.lock()));
                told_at = clock::now();
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    /// How far it has come, and what is in the way that does not go away by waiting.
    fn progress(&self) -> String {
        let (seen, expect) = (self.seen.lock(), self.plan.expect);
        let tried = self.plan.join.join(", ");
        if expect == 0 {
            return format!(
                "looking for a cluster to join at {tried}; for a new one to be born, give all of its \
                 nodes the same --expect: their number"
            );
        }
        let met = seen.len() + 1;
        let mut text =
            format!("waiting for the others: {met} of {expect} nodes have met at {tried}");
        if met > expect as usize {
            text += &format!("; more than --expect {expect}: give all of them their number");
        }
        for (address, other) in seen.iter().filter(|(_, other)| other.cluster.is_none()) {
            if other.expect != expect {
                text += &format!(
                    "; {address} was started with --expect {}, this node with {expect}: give all of \
                     them the same",
                    other.expect
                );
            }
        }
        text
    }

    /// Introduces this node to whoever is at `address`, and joins its cluster if it has one.
    async fn meet(&self, transport: &SharedTransport, address: &str) -> Result<(), String> {
        let request = Request::Introduce(self.introduction());
        match transport.ask_address(address, request, ANSWER).await {
            Ok((node, Reply::Introduce(other))) => {
                self.unmet.lock().remove(address);
                self.note(node, &other);
                if other.cluster.is_none() {
                    return Ok(());
                }
                self.join_at(transport, address, 3).await
            }
            Ok((_, other)) => {
                tracing::debug!("{address} answered {:?} to an introduction", other.kind());
                Ok(())
            }
            Err(error) => {
                let why = match error {
                    // Nobody knows yet which node that is.
                    CallError::Unreachable { why, .. } => why,
                    error => error.to_string(),
                };
                self.unmet.lock().insert(address.to_owned(), why);
                self.seen.lock().remove(address);
                Ok(())
            }
        }
    }

    /// Asks the cluster that is found at `address` to take this node in.
    async fn join_at(
        &self,
        transport: &SharedTransport,
        address: &str,
        hops: u32,
    ) -> Result<(), String> {
        let mut address = address.to_owned();
        for _ in 0..hops {
            match self.ask_to_join(transport, &address).await {
                Some(Joined::Accepted { cluster, .. }) => {
                    let mut file = self.file.lock();
                    let identity = Identity { cluster, ..file.identity.clone() };
                    return file.keep(identity);
                }
                Some(Joined::Elsewhere { leader: Some(leader) }) => address = leader.address,
                Some(Joined::Lost) => return self.note_lost(),
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// A member has this node's id. A first member that has yet to hear of the birth is told within
    /// a second; one that is not has lost what it had.
    fn note_lost(&self) -> Result<(), String> {
        let since = *self.lost_since.lock().get_or_insert_with(clock::now);
        if since.elapsed() > HEARS_WITHIN { Err(LOST.to_owned()) } else { Ok(()) }
    }

    async fn ask_to_join(&self, transport: &SharedTransport, address: &str) -> Option<Joined> {
        let join = Join {
            member: self.me(),
            capacity_bytes: self.plan.capacity_bytes,
            zone: String::new(),
            kept: !self.identity().cluster.is_none(),
        };
        match transport.ask_address(address, Request::Join(join), ANSWER).await {
            Ok((_, Reply::Join(joined))) => Some(joined),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!("cannot ask {address} to join its cluster: {error}");
                None
            }
        }
    }

    /// Founds a cluster if the nodes expected have all met the same ones, and this one is the least.
    fn found_if_all_agree(&self) -> Result<(), String> {
        let mut file = self.file.lock();
        let identity = file.identity.clone();
        let seen = self.seen.lock();
        if !identity.cluster.is_none() || self.plan.expect as usize != seen.len() + 1 {
            return Ok(());
        }
        let me = Member { node: identity.node, address: self.plan.advertise.clone() };
        let mut members: Vec<Member> = seen
            .iter()
            .map(|(address, seen)| Member { node: seen.node, address: address.clone() })
            .chain([me])
            .collect();
        members.sort_by_key(|member| member.node);
        let ids: Vec<NodeId> = members.iter().map(|member| member.node).collect();
        let agrees = |other: &Seen| {
            let mut met = other.met.clone();
            met.sort();
            met == ids && other.cluster.is_none() && other.expect == self.plan.expect
        };
        if ids[0] != identity.node || !seen.values().all(agrees) {
            return Ok(());
        }
        let id = u128::from(entropy::random_u64()) << 64 | u128::from(entropy::random_u64()) | 1;
        let cluster = ClusterId(id.to_le_bytes());
        tracing::info!("a cluster of {} nodes is born: {cluster}", ids.len());
        file.keep(born(identity, cluster, members))
    }

    /// Tells the first members of the cluster that it is born, until all have heard it, and asks to
    /// be a member, until `is_member` says that this node is one.
    pub async fn announce(
        self: Arc<Self>,
        transport: SharedTransport,
        is_member: impl Fn() -> bool,
    ) {
        loop {
            self.tell_the_untold(&transport).await;
            if is_member() {
                self.keep(|identity| identity.has_voted = true);
            }
            let identity = self.identity();
            if identity.untold.is_empty() && identity.has_voted {
                return;
            }
            if !is_member() && identity.first.is_empty() {
                for address in self.plan.join.iter().filter(|at| **at != self.plan.advertise) {
                    let _ = self.join_at(&transport, address, 3).await;
                }
            }
            tokio::time::sleep(ROUND * 5).await;
        }
    }

    /// Changes what is kept, if that changes anything.
    fn keep(&self, change: impl FnOnce(&mut Identity)) {
        let mut file = self.file.lock();
        let mut identity = file.identity.clone();
        change(&mut identity);
        if identity != file.identity
            && let Err(error) = file.keep(identity)
        {
            tracing::warn!("{error}; it is tried again");
        }
    }

    async fn tell_the_untold(&self, transport: &SharedTransport) {
        let identity = self.identity();
        for member in identity.first.iter().filter(|m| identity.untold.contains(&m.node)) {
            if self.tell(transport, &identity, &member.address).await {
                self.keep(|identity| identity.untold.retain(|node| *node != member.node));
            }
        }
    }

    async fn tell(&self, transport: &SharedTransport, identity: &Identity, address: &str) -> bool {
        let found = Found { cluster: identity.cluster, shards: 1, members: identity.first.clone() };
        let answer = transport.ask_address(address, Request::Found(found), ANSWER).await;
        match answer {
            Ok((_, Reply::Found(founded))) => !founded.cluster.is_none(),
            _ => false,
        }
    }
}

/// The end of a line that says that nodes were not met: why.
fn why_not(unmet: &BTreeMap<String, String>) -> String {
    let each: String = unmet.iter().map(|(at, why)| format!("; {at}: {why}")).collect();
    if each.is_empty() {
        return each;
    }
    format!("{each}; peers listen on UDP, by default {PEER_PORT_OFFSET} above the port for clients")
}

/// A first member of a cluster, which has yet to tell the others.
fn born(identity: Identity, cluster: ClusterId, first: Vec<Member>) -> Identity {
    let others = first.iter().map(|member| member.node).filter(|node| *node != identity.node);
    Identity { untold: others.collect(), cluster, first, ..identity }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_says_for_whom_and_what_is_in_the_way() {
        let dir = tempfile::tempdir().expect("a directory");
        let birth = |expect| {
            let file = IdentityFile::find_or_draw(dir.path(), None).expect("an identity");
            let join = vec!["a:1".to_owned(), "b:2".to_owned()];
            Birth::new(Plan { advertise: "a:1".into(), join, expect, capacity_bytes: 0 }, file)
        };
        let note = |birth: &Birth, node, address: &str, expect| {
            let member = Member { node: NodeId(node), address: address.into() };
            let cluster = ClusterId::NONE;
            let other = Introduce { member, expect, shards: 1, cluster, met: Vec::new() };
            birth.note(NodeId(node), &other);
        };
        assert!(birth(0).progress().contains("--expect"));
        let two = birth(2);
        assert_eq!(two.progress(), "waiting for the others: 1 of 2 nodes have met at a:1, b:2");
        note(&two, 2, "b:2", 2);
        assert_eq!(two.progress(), "waiting for the others: 2 of 2 nodes have met at a:1, b:2");
        note(&two, 4, "c:3", 3);
        let said = two.progress();
        assert!(said.contains("3 of 2") && said.contains("more than --expect 2"), "{said}");
        assert!(said.contains("c:3 was started with --expect 3, this node with 2"), "{said}");

        let said = why_not(&BTreeMap::from([("c:3".to_owned(), "nobody answers".to_owned())]));
        assert!(said.contains("c:3: nobody answers") && said.contains("10000 above"), "{said}");
        assert_eq!(why_not(&BTreeMap::new()), "");
    }
}
