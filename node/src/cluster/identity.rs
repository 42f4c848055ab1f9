//! Who a node is: drawn at its first start as a member of a cluster, kept in `--dir`, and never
//! given to another.
//!
//! `node.json` names the node, its cluster once it belongs to one, and the first members of a
//! cluster that was born with it. A node that lost it is a new node.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cairn_protocol::cluster::message::Member;
use cairn_protocol::ids::{ClusterId, NodeId};
use serde_json::{Value, json};

use crate::ops::entropy;

const FILE: &str = "node.json";
const VERSION: u64 = 1;

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub node: NodeId,
    /// Its cluster, or [`ClusterId::NONE`].
    pub cluster: ClusterId,
    /// The first members of its cluster, if it was one of them.
    pub first: Vec<Member>,
    /// Those of them that this node has yet to tell of the birth. One that has heard is never told
    /// again: should it have lost what it had, it must not begin anew under its id.
    pub untold: Vec<NodeId>,
    /// It has been a voter: others may count on what it has promised, and it must not come back
    /// without that.
    pub has_voted: bool,
}

/// The identity of one node, and its file.
#[derive(Debug)]
pub struct IdentityFile {
    path: PathBuf,
    /// As the file has it.
    pub identity: Identity,
}

impl IdentityFile {
    /// The identity kept in `dir`, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn find(dir: &Path) -> Result<Option<IdentityFile>, String> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        let identity = parse(&text).ok_or_else(|| {
            format!(
                "{} is not the identity of a node that this build can read: restore it, or start a \
                 new node with an empty --dir",
                path.display()
            )
        })?;
        Ok(Some(IdentityFile { path, identity }))
    }

    /// The identity kept in `dir`; if there is none it is that of `given`, or drawn, and kept now.
    ///
    /// # Errors
    /// As [`IdentityFile::find`], or the file cannot be written.
    pub fn find_or_draw(dir: &Path, given: Option<NodeId>) -> Result<IdentityFile, String> {
        if let Some(found) = IdentityFile::find(dir)? {
            return Ok(found);
        }
        let identity = Identity {
            // 0 stands for none, and other programs read numbers as signed.
            node: given.unwrap_or_else(|| NodeId(entropy::random_u64() >> 1 | 1)),
            cluster: ClusterId::NONE,
            first: Vec::new(),
            untold: Vec::new(),
            has_voted: false,
        };
        let mut file = IdentityFile { path: dir.join(FILE), identity: identity.clone() };
        file.keep(identity)?;
        Ok(file)
    }

    /// Replaces it, durably: afterwards every start finds the new one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&mut self, identity: Identity) -> Result<(), String> {
        let failed = |error| format!("cannot write {}: {error}", self.path.display());
        write_durably(&self.path, &show(&identity)).map_err(failed)?;
        self.identity = identity;
        Ok(())
    }
}

fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("json.new");
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn show(identity: &Identity) -> String {
    let member = |member: &Member| json!({"node": member.node.0, "address": member.address});
    let text = json!({
        "version": VERSION,
        "node": identity.node.0,
        "cluster": identity.cluster.to_string(),
        "first_members": identity.first.iter().map(member).collect::<Vec<_>>(),
        "untold": identity.untold.iter().map(|node| node.0).collect::<Vec<_>>(),
        "has_voted": identity.has_voted,
    });
    format!("{text:#}\n")
}

fn parse(text: &str) -> Option<Identity> {
    let value: Value = serde_json::from_str(text).ok()?;
    let member = |value: &Value| {
        let (node, address) = (value.get("node")?.as_u64()?, value.get("address")?.as_str()?);
        Some(Member { node: NodeId(node), address: address.to_owned() })
    };
    let first = value.get("first_members")?.as_array()?.iter().map(member);
    let untold = value.get("untold")?.as_array()?.iter().map(|node| node.as_u64().map(NodeId));
    (value.get("version")?.as_u64()? == VERSION).then_some(())?;
    Some(Identity {
        node: NodeId(value.get("node")?.as_u64().filter(|node| *node != 0)?),
        cluster: parse_cluster(value.get("cluster")?.as_str()?)?,
        first: first.collect::<Option<_>>()?,
        untold: untold.collect::<Option<_>>()?,
        has_voted: value.get("has_voted")?.as_bool()?,
    })
}

fn parse_cluster(text: &str) -> Option<ClusterId> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut id = [0; 16];
    for (byte, at) in id.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(ClusterId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_drawn_once_and_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut file = IdentityFile::find_or_draw(dir.path(), None).expect("drawn");
        assert!(file.identity.cluster.is_none() && file.identity.node.0 != 0);
        let again = IdentityFile::find_or_draw(dir.path(), Some(NodeId(7))).expect("found");
        assert_eq!(again.identity, file.identity);
        let member = Member { node: NodeId(u64::MAX >> 1), address: "a.b:16379".into() };
        let (cluster, first) = (ClusterId([0xa5; 16]), vec![member]);
        let untold = vec![NodeId(5)];
        let born = Identity { cluster, first, untold, has_voted: true, ..again.identity };
        file.keep(born.clone()).expect("kept");
        assert_eq!(IdentityFile::find(dir.path()).expect("read").expect("there").identity, born);
    }

    #[test]
    fn another_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        for text in ["", "{}", "{\"version\":2,\"node\":1,\"cluster\":\"00\",\"first_members\":[]}"]
        {
            fs::write(dir.path().join(FILE), text).expect("written");
            assert!(IdentityFile::find_or_draw(dir.path(), None).is_err(), "{text}");
        }
    }
}
