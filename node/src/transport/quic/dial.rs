//! Making a connection, and the Hello of the one who makes it.

use std::net::SocketAddr;

use cairn_protocol::cluster::envelope;
use cairn_protocol::cluster::message::{Hello, Refused, RefusedCode};
use cairn_protocol::ids::{NodeId, ShardId};
use quinn::{Connection, ConnectionError};

use super::{CallError, Class, Net, Question, Reply, Request, close_code, refused, tls};

/// The TLS alerts about certificates (RFC 8446, section 6.2), as QUIC carries them: 256 and the
/// alert's number.
const CERTIFICATE_ALERTS: [u64; 9] =
    [256 + 42, 256 + 43, 256 + 44, 256 + 45, 256 + 46, 256 + 48, 256 + 49, 256 + 51, 256 + 116];

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum DialError {
    /// The peer said no.
    Refused(Refused),
    /// Anything else.
    Failed(String),
}

impl DialError {
    /// For people.
    pub fn why(self) -> String {
        match self {
            DialError::Refused(refused) => format!("it refused the connection: {}", refused.text),
            DialError::Failed(why) => why,
        }
    }
}

/// Connects to the node `to`, or to whoever is there, for `class`, or for one question. Runs on the
/// lane of that class. Returns the connection once its peer has proved itself and accepted this
/// node, and the peer's Hello.
pub(super) async fn dial(
    net: &Net,
    to: Option<NodeId>,
    address: &str,
    class: Option<Class>,
) -> Result<(Connection, Hello), DialError> {
    let mut failure = DialError::Failed(format!("{address} has no address this node can reach"));
    for socket in resolve(net, address).await? {
        if to.is_some() {
            // Where a peer is dialled it may dial from.
            net.gate.expect(socket.ip());
        }
        match connect(net, to, socket, class).await {
            Ok(connected) => return Ok(connected),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The addresses that HOST:PORT stands for, of the family that this node's socket has.
async fn resolve(net: &Net, address: &str) -> Result<Vec<SocketAddr>, DialError> {
    let unknown = |error| DialError::Failed(format!("{address} cannot be resolved: {error}"));
    let is_v6 = net.address.is_ipv6();
    let found = match address.parse::<SocketAddr>() {
        Ok(address) => vec![address],
        Err(_) => tokio::net::lookup_host(address).await.map_err(unknown)?.collect(),
    };
    Ok(found.into_iter().filter(|found| found.is_ipv4() || is_v6).collect())
}

async fn connect(
    net: &Net,
    to: Option<NodeId>,
    socket: SocketAddr,
    class: Option<Class>,
) -> Result<(Connection, Hello), DialError> {
    let name = to.map_or_else(|| tls::NAME_OF_ANY.to_owned(), tls::name_of);
    let endpoint = class.map_or(&net.main, |class| net.lane(class)).endpoint();
    let endpoint = endpoint.ok_or_else(|| DialError::Failed("this node stops".to_owned()))?;
    let failed = |error: &ConnectionError| {
        if is_about_certificates(error) {
            net.count(|refused| refused.certificates += 1);
        }
        DialError::Failed(why(error))
    };
    let connecting = endpoint
        .connect_with(net.client.clone(), socket, &name)
        .map_err(|error| DialError::Failed(error.to_string()))?;
    let connection = connecting.await.map_err(|error| failed(&error))?;
    let greeted = greet(net, &connection, class).await;
    greeted.map(|hello| (connection.clone(), hello)).map_err(|error| {
        let error = match connection.close_reason() {
            // What the peer thinks of this node's certificate arrives after the handshake.
            Some(reason) if is_about_certificates(&reason) => failed(&reason),
            _ => error,
        };
        connection.close(close_code::REFUSED, b"");
        error
    })
}

/// Says Hello and judges the answer.
async fn greet(
    net: &Net,
    connection: &Connection,
    class: Option<Class>,
) -> Result<Hello, DialError> {
    let node = proven(connection)
        .ok_or_else(|| DialError::Failed("its certificate names no node".to_owned()))?;
    let hello = Request::Hello(net.hello(class.map_or(0, Class::number)));
    let failed = |error: CallError| match error {
        CallError::Refused { refused, .. } => DialError::Refused(refused),
        CallError::Unreachable { why, .. }
        | CallError::Broken { why, .. }
        | CallError::BadReply { why, .. } => DialError::Failed(why),
        error => DialError::Failed(error.to_string()),
    };
    let question = Question::new(net.stamp(node, ShardId::NONE), &hello).map_err(failed)?;
    match net.ask(connection, node, question).await.map_err(failed)? {
        (Reply::Hello(hello), _) => {
            judge(&hello, node).map_err(DialError::Refused)?;
            Ok(hello)
        }
        _ => Err(DialError::Failed("it answered another thing than Hello".to_owned())),
    }
}

/// Whether the one who is proven to be `node` may say this Hello to this build.
pub(super) fn judge(hello: &Hello, node: NodeId) -> Result<(), Refused> {
    if hello.node != node {
        let text = format!("Hello of node {}, but its certificate names {node}", hello.node);
        return Err(refused(RefusedCode::Identity, text));
    }
    let (least, greatest) = hello.versions;
    if !(least..=greatest).contains(&envelope::VERSION) {
        let text = format!(
            "node {node} speaks versions {least} to {greatest} of the node protocol, this node \
             version {}: upgrade the older of the two",
            envelope::VERSION
        );
        return Err(refused(RefusedCode::Version, text));
    }
    Ok(())
}

/// Whom the peer's certificate names.
pub(super) fn proven(connection: &Connection) -> Option<NodeId> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().ok()?;
    tls::node_of(chain.first()?)
}

/// Whether one of the two sides did not believe the other's certificate.
pub(super) fn is_about_certificates(error: &ConnectionError) -> bool {
    let code = match error {
        ConnectionError::TransportError(error) => error.code,
        ConnectionError::ConnectionClosed(close) => close.error_code,
        _ => return false,
    };
    CERTIFICATE_ALERTS.contains(&u64::from(code))
}

/// Why a connection ended, for people.
pub(super) fn why(error: &ConnectionError) -> String {
    match error {
        error if is_about_certificates(error) => format!(
            "certificate not accepted ({error}): give both nodes the same CAIRN_CLUSTER_SECRET, \
             or certificates of one authority that name them; check that the address is not \
             another node's"
        ),
        ConnectionError::ApplicationClosed(close) if !close.reason.is_empty() => {
            format!("it closed the connection: {}", String::from_utf8_lossy(&close.reason))
        }
        ConnectionError::Reset => "it was started anew".to_owned(),
        ConnectionError::TimedOut => "it does not answer".to_owned(),
        error => error.to_string(),
    }
}
