//! ROLE, READONLY, READWRITE and CAIRN.RAFT: how this node stands among its peers, and who is one.

use std::sync::atomic::Ordering;

use cairn_protocol::WireError;
use cairn_protocol::ids::NodeId;
use cairn_protocol::resp::{Argv, Writer};

use super::{After, Context};
use crate::raft::{GroupMember, Role};
use crate::server::info::client_address;

/// ROLE, as Redis words it: the leader is a master, the others are its replicas.
pub(super) fn role(cx: &mut Context<'_>, w: &mut Writer<'_>) {
    let group = &cx.shared.group;
    let offset = i64::try_from(group.read().store().applied().1.0).unwrap_or(i64::MAX);
    let members = group.members();
    match group.role() {
        Role::Leader => {
            let own = group.status().node;
            let others: Vec<&GroupMember> = members.iter().filter(|m| m.node != own).collect();
            w.array(3);
            w.bulk(b"master");
            w.int(offset);
            w.array(others.len());
            for member in others {
                let (host, port) = client_address(&member.address);
                w.array(3);
                w.bulk(host.as_bytes());
                w.bulk(port.to_string().as_bytes());
                let matched = member.matched.map_or(0, |index| index.0);
                w.bulk(matched.to_string().as_bytes());
            }
        }
        Role::Follower(leader) => {
            let leader = members.iter().find(|member| Some(member.node) == leader);
            let (host, port) =
                leader.map_or_else(Default::default, |leader| client_address(&leader.address));
            w.array(5);
            w.bulk(b"slave");
            w.bulk(host.as_bytes());
            w.int(port.into());
            w.bulk(if leader.is_some() { b"connected" } else { &b"connect"[..] });
            w.int(offset);
        }
    }
}

/// READONLY, READWRITE
pub(super) fn read_only(
    cx: &mut Context<'_>,
    allowed: bool,
    w: &mut Writer<'_>,
) -> Result<(), WireError> {
    if cx.shared.group.is_alone() {
        return Err(WireError::Static("ERR This instance has cluster support disabled"));
    }
    cx.session.readonly = allowed;
    w.ok();
    Ok(())
}

/// CAIRN.RAFT REMOVE node
pub(super) fn remove(cx: &mut Context<'_>, argv: Argv<'_>) -> Result<After, WireError> {
    let group = &cx.shared.group;
    let node = std::str::from_utf8(&argv[2]).ok().and_then(|text| text.parse().ok());
    let node = NodeId(node.ok_or(WireError::NotInteger)?);
    if let Role::Follower(leader) = group.role() {
        let leader = group.members().into_iter().find(|member| Some(member.node) == leader);
        let there = leader.map_or_else(
            || "and none is known at the moment".to_owned(),
            |leader| {
                let (host, port) = client_address(&leader.address);
                format!("ask {host}:{port}")
            },
        );
        return Err(WireError::Custom(format!(
            "ERR only the leader can take a member out: {there}"
        )));
    }
    Ok(After::Remove(node))
}

/// CAIRN.RAFT STATUS
pub(super) fn status(cx: &mut Context<'_>, w: &mut Writer<'_>) {
    let group = &cx.shared.group;
    let (status, members) = (group.status(), group.members());
    let (role, leader) = match group.role() {
        Role::Leader => ("leader", Some(status.node)),
        Role::Follower(leader) => ("follower", leader),
    };
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let index = |index: Option<cairn_protocol::ids::LogIndex>| index.map_or(-1, |i| number(i.0));
    let applied = group.applied();
    w.map(15);
    w.bulk(b"node");
    w.bulk(status.node.to_string().as_bytes());
    w.bulk(b"shard");
    w.int(group.shard().0.into());
    w.bulk(b"role");
    w.bulk(role.as_bytes());
    w.bulk(b"leader");
    w.bulk(leader.map_or_else(String::new, |leader| leader.to_string()).as_bytes());
    let numbers = [
        (&b"term"[..], number(status.term.0)),
        (b"last_log_index", index(status.last)),
        (b"commit_index", index(status.committed)),
        (b"applied_index", number(applied.0)),
        (b"purged_index", index(status.purged)),
        (b"snapshot_index", number(cx.shared.commits.applied_index.load(Ordering::Relaxed))),
        (b"lease_ms", number(status.lease_ms)),
        (b"last_io_ms", status.heard_ms.map_or(-1, number)),
        (b"stale_ms", status.stale_ms.map_or(-1, number)),
        (b"member", group.is_member().into()),
    ];
    for (name, value) in numbers {
        w.bulk(name);
        w.int(value);
    }
    w.bulk(b"members");
    w.array(members.len());
    for member in &members {
        let lag = member.matched.zip(status.last).map(|(at, last)| last.0.saturating_sub(at.0));
        w.map(6);
        w.bulk(b"node");
        w.bulk(member.node.to_string().as_bytes());
        w.bulk(b"address");
        w.bulk(member.address.as_bytes());
        w.bulk(b"voter");
        w.int(member.is_voter.into());
        w.bulk(b"match_index");
        w.int(index(member.matched));
        w.bulk(b"lag");
        w.int(lag.map_or(-1, number));
        w.bulk(b"last_ack_ms");
        w.int(member.seen_ms.map_or(-1, number));
    }
}
