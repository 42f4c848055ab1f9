//! Several nodes that are one cluster: who this node is, how a cluster is born, how a node joins
//! one, and what answers the peers.
//!
//! Imports `raft`, `transport` and `ops`; never the server.

pub mod birth;
pub mod identity;
pub mod service;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_protocol::ids::{ClusterId, NodeId};

use crate::ops::config::{PEER_PORT_OFFSET, Reads, Settings};
use crate::ops::metrics::Shard as Stats;
use crate::ops::signals::Signals;
use crate::raft::recover::{POOL_FILE, boot_id};
use crate::raft::{Distance, Group, Standing};
use crate::transport::SharedTransport;
use crate::transport::quic::{Limits, Options, QuicTransport};
use crate::transport::tls::{self, Identity as TlsIdentity};
use birth::{Birth, Plan};
use identity::IdentityFile;
use service::Service;

/// What came of looking for a cluster.
pub enum Met {
    /// Nothing was looked for: a node without `--join` and without an identity from earlier.
    Alone,
    /// This node belongs to a cluster. Whoever waited for that has heard signals since.
    Member(Peers, Option<Signals>),
    /// A signal of this name came first.
    Stopped(&'static str),
}

/// This node's part in its cluster.
pub struct Peers {
    transport: SharedTransport,
    service: Arc<Service>,
    birth: Arc<Birth>,
    keep_bytes: u64,
    reads: Reads,
    distance: Distance,
}

impl Peers {
    /// Listens for peers and waits until this node belongs to a cluster. `stats` are of the
    /// transport's threads.
    ///
    /// # Errors
    /// A text that says what is wrong and what to do.
    pub fn meet(
        settings: &Settings,
        capacity_bytes: u64,
        stats: Arc<Stats>,
    ) -> Result<Met, String> {
        let dir = &settings.dir;
        let found = IdentityFile::find(dir)?;
        if found.is_none() && settings.join.is_empty() {
            return alone(settings).map(|()| Met::Alone);
        }
        let proof = Proof::of(settings)?;
        let file = match found {
            Some(file) => file,
            None => draw(dir, proof.node()?)?,
        };
        let identity = file.identity.clone();
        let (listen, advertise) = addresses(settings)?;
        let options = Options {
            identity: proof.identity(identity.node)?,
            listen,
            advertise: advertise.clone(),
            cluster: identity.cluster,
            boot_id: boot_id(),
            limits: Limits::default(),
        };
        let transport = QuicTransport::start(options).map_err(|error| error.to_string())?;
        let transport: SharedTransport = Arc::new(transport);
        let (join, expect) = (settings.join.clone(), settings.expect);
        let plan = Plan { advertise, join, expect, capacity_bytes };
        let birth = Arc::new(Birth::new(plan, file));
        let service = Service::new(Arc::clone(&birth), Arc::clone(&transport), stats);
        transport.serve(Arc::clone(&service) as _);
        let (keep_bytes, reads) = (settings.log_keep_bytes, settings.reads);
        let distance = Distance::of(Duration::from_millis(settings.peer_rtt_ms));
        let peers = Peers { transport, service, birth, keep_bytes, reads, distance };
        if peers.birth.identity().cluster.is_none() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
            return runtime.block_on(peers.seek());
        }
        Ok(Met::Member(peers, None))
    }

    async fn seek(self) -> Result<Met, String> {
        let mut signals = Signals::hear()?;
        tokio::select! {
            sought = self.birth.seek(&self.transport) => sought.map(drop)?,
            name = signals.asked() => return Ok(Met::Stopped(name)),
        }
        Ok(Met::Member(self, Some(signals)))
    }

    /// With whom its group agrees.
    pub fn standing(&self) -> Standing {
        let identity = self.birth.identity();
        let first = identity.first.into_iter().map(|member| (member.node, member.address));
        let transport = Arc::clone(&self.transport);
        Standing::Member {
            transport,
            first: Some(first.collect()).filter(|first: &Vec<_>| !first.is_empty()),
            has_voted: identity.has_voted,
            keep_bytes: self.keep_bytes,
            reads: self.reads,
            distance: self.distance,
        }
    }

    /// Answers for `group` from now on.
    pub fn serve(&self, group: &Arc<Group>) {
        self.service.set_group(Arc::clone(group));
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.birth.identity().cluster
    }

    /// What INFO calls `master_replid`: forty hexadecimal digits that all nodes of the cluster share.
    pub fn replication_id(&self) -> String {
        format!("{:0<40}", self.cluster().to_string())
    }

    /// What the cluster's keys are hashed with: the same on every node, in no other cluster.
    pub fn hash_key(&self) -> [u64; 2] {
        let id = u128::from_le_bytes(self.cluster().0);
        [id as u64, (id >> 64) as u64]
    }

    /// The way to the others.
    pub fn transport(&self) -> &SharedTransport {
        &self.transport
    }

    /// Sees to it that all first members know of the birth, and that this node is one of `group`'s.
    pub fn announce(&self, group: &Arc<Group>) -> impl Future<Output = ()> + Send + use<> {
        let (node, group) = (self.birth.identity().node, Arc::clone(group));
        let is_member =
            move || group.members().iter().any(|member| member.node == node && member.is_voter);
        Arc::clone(&self.birth).announce(Arc::clone(&self.transport), is_member)
    }
}

/// Whether options that speak of others can be meant for a node that has none.
fn alone(settings: &Settings) -> Result<(), String> {
    let Settings { expect, cluster_secret, peer_cert, .. } = settings;
    if *expect > 0 {
        return Err(format!(
            "--expect {expect} asks for a cluster, and without --join this node would be alone: give \
             --join with the peer addresses of all of them, or leave --expect out"
        ));
    }
    if !cluster_secret.is_empty() || peer_cert.is_some() {
        tracing::warn!(
            "what proves a node to its peers is given and --join is not: this node is alone"
        );
    }
    Ok(())
}

/// What a node proves itself with to its peers, as the options say it.
enum Proof<'a> {
    Secret(&'a str),
    Files { ca: &'a Path, certificate: &'a Path, key: &'a Path },
}

impl<'a> Proof<'a> {
    fn of(settings: &'a Settings) -> Result<Proof<'a>, String> {
        let files = (&settings.peer_ca, &settings.peer_cert, &settings.peer_key);
        match (settings.cluster_secret.as_str(), files) {
            ("", (Some(ca), Some(certificate), Some(key))) => {
                Ok(Proof::Files { ca, certificate, key })
            }
            ("", (None, None, None)) => {
                Err("a node of a cluster needs the secret that its nodes share: set \
                 CAIRN_CLUSTER_SECRET to what `openssl rand -hex 32` printed once, the same for \
                 every node"
                    .to_owned())
            }
            (secret, (None, None, None)) => Ok(Proof::Secret(secret)),
            ("", _) => Err("--peer-ca, --peer-cert and --peer-key are given together".to_owned()),
            _ => Err("either a cluster secret is given or certificates are, not both".to_owned()),
        }
    }

    /// Whom a certificate names; None where the id is to be drawn.
    fn node(&self) -> Result<Option<NodeId>, String> {
        match self {
            Proof::Secret(_) => Ok(None),
            Proof::Files { certificate, .. } => {
                tls::node_in(certificate).map(Some).map_err(|error| error.to_string())
            }
        }
    }

    fn identity(&self, node: NodeId) -> Result<TlsIdentity, String> {
        let identity = match self {
            Proof::Secret(secret) => TlsIdentity::from_secrets(node, secret),
            Proof::Files { ca, certificate, key } => {
                TlsIdentity::from_files(node, ca, certificate, key)
            }
        };
        identity.map_err(|error| error.to_string())
    }
}

/// A new identity, unless somebody else's data lies there.
fn draw(dir: &Path, given: Option<NodeId>) -> Result<IdentityFile, String> {
    let pool = dir.join(POOL_FILE);
    if pool.exists() {
        return Err(format!(
            "{} holds the data of a lone node: start it without --join, or give another --dir to a \
             node of a cluster",
            pool.display()
        ));
    }
    IdentityFile::find_or_draw(dir, given)
}

/// Where to listen, and what to tell the peers.
fn addresses(settings: &Settings) -> Result<(SocketAddr, String), String> {
    let port = match settings.peer_port {
        0 => settings.port.checked_add(PEER_PORT_OFFSET).filter(|_| settings.port > 0),
        port => Some(port),
    };
    let port = port.ok_or_else(|| {
        format!("--port {} leaves no port for the peers: give --peer-port", settings.port)
    })?;
    let ip = settings.bind.first().copied().unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let advertise = match settings.advertise.as_str() {
        "" if ip.is_unspecified() => {
            return Err(format!(
                "--bind {ip} says not where peers reach this node: give --advertise HOST"
            ));
        }
        "" => SocketAddr::new(ip, port).to_string(),
        given if given.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
            given.to_owned()
        }
        host => format!("{host}:{port}"),
    };
    Ok((SocketAddr::new(ip, port), advertise))
}
