//! What answers the peers: introductions and joins here, everything about a shard in its group.

use std::sync::{Arc, OnceLock};

use cairn_protocol::cluster::message::{Join, Joined, Member, Refused, RefusedCode};
use cairn_protocol::cluster::{Reply, Request};
use cairn_protocol::ids::ShardId;

use super::birth::Birth;
use crate::ops::metrics::Shard as Stats;
use crate::raft::{Group, Role};
use crate::transport::{BoxFuture, Handler, Incoming, SharedTransport, refused};

/// A node's answers to its peers.
pub struct Service {
    birth: Arc<Birth>,
    transport: SharedTransport,
    group: OnceLock<Arc<Group>>,
    /// Of the transport's threads.
    stats: Arc<Stats>,
}

impl Service {
    /// Answers what can be answered before there is a group.
    pub fn new(birth: Arc<Birth>, transport: SharedTransport, stats: Arc<Stats>) -> Arc<Service> {
        Arc::new(Service { birth, transport, group: OnceLock::new(), stats })
    }

    /// Answers for `group` too, from now on.
    pub fn set_group(&self, group: Arc<Group>) {
        // A second one would be a mistake of the composition; the first one stays.
        let _ = self.group.set(group);
    }

    fn group(&self, shard: ShardId) -> Result<&Arc<Group>, Refused> {
        let group = self.group.get().filter(|group| group.shard() == shard);
        group.ok_or_else(|| {
            refused(RefusedCode::Unavailable, format!("shard {shard} is not here, or not yet"))
        })
    }

    fn join(&self, join: &Join) -> Joined {
        let Some(group) = self.group.get() else {
            return Joined::Elsewhere { leader: None };
        };
        let members = group.members();
        match group.role() {
            Role::Leader => {
                let is_known = members.iter().any(|member| member.node == join.member.node);
                if !join.kept && is_known {
                    return Joined::Lost;
                }
                if join.kept {
                    group.admit(join.member.node, &join.member.address);
                }
                let members = members
                    .into_iter()
                    .map(|member| Member { node: member.node, address: member.address })
                    .collect();
                Joined::Accepted { cluster: self.birth.identity().cluster, members }
            }
            Role::Follower(leader) => {
                let leader = members.into_iter().find(|member| Some(member.node) == leader);
                let leader =
                    leader.map(|member| Member { node: member.node, address: member.address });
                Joined::Elsewhere { leader }
            }
        }
    }
}

impl Handler for Service {
    fn handle(&self, incoming: Incoming) -> BoxFuture<Result<Reply, Refused>> {
        let Incoming { from, shard, request } = incoming;
        let ready = |reply: Result<Reply, Refused>| {
            Box::pin(std::future::ready(reply)) as BoxFuture<Result<Reply, Refused>>
        };
        match request {
            Request::Introduce(other) => {
                ready(Ok(Reply::Introduce(self.birth.introduce(from, &other))))
            }
            Request::Found(found) => {
                let founded = self.birth.found(&found);
                if let Ok(founded) = &founded {
                    self.transport.set_cluster(founded.cluster);
                }
                let founded = founded.map_err(|error| refused(RefusedCode::Failed, error));
                ready(founded.map(Reply::Found))
            }
            Request::Join(join) => ready(Ok(Reply::Join(self.join(&join)))),
            Request::Forward(forward) => match self.group(shard) {
                Ok(group) => {
                    let served = Arc::clone(group).serve(from, forward, Arc::clone(&self.stats));
                    Box::pin(async move { served.await.map(Reply::Forward) })
                }
                Err(error) => ready(Err(error)),
            },
            request => match self.group(shard) {
                Ok(group) => group.answer(request),
                Err(error) => ready(Err(error)),
            },
        }
    }
}
