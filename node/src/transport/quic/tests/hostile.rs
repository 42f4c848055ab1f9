//! Whoever finds the peer port: rubbish, floods, strangers and liars. Each is refused and counted,
//! and the cluster's own calls go on.

use std::net::UdpSocket;

use cairn_protocol::cluster::Envelope;
use quinn::ConnectionError;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use super::*;
use crate::ops::entropy::{self, Seeds};

const OTHER_SECRET: &str = "00112233445566778899aabbccddeeff";

/// A program that speaks QUIC and TLS as a node does, and whatever it likes on top.
struct Impostor {
    runtime: tokio::runtime::Runtime,
    connection: Connection,
    _endpoint: Endpoint,
}

fn client_of(identity: &Identity) -> quinn::ClientConfig {
    quic_client(identity.client_config().expect("a configuration"))
}

fn quic_client(config: rustls::ClientConfig) -> quinn::ClientConfig {
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).expect("for QUIC")))
}

impl Impostor {
    /// Connects; the handshake ends well as far as this side can see.
    fn connect(client: quinn::ClientConfig, to: &QuicTransport) -> Impostor {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let there = to.local_address();
        let (endpoint, connection) = runtime.block_on(async {
            let endpoint = Endpoint::client(any_port()).expect("an endpoint");
            let connecting = endpoint.connect_with(client, there, tls::NAME_OF_ANY);
            let connection = connecting.expect("a way").await.expect("a handshake");
            (endpoint, connection)
        });
        Impostor { runtime, connection, _endpoint: endpoint }
    }

    fn of_node(node: u64, to: &QuicTransport) -> Impostor {
        Impostor::connect(client_of(&options(node).identity), to)
    }

    /// The answer to these bytes on a stream of their own.
    fn say(&self, bytes: &[u8]) -> Result<(Envelope, Bytes), String> {
        self.runtime.block_on(async {
            let (send, receive) = self.connection.open_bi().await.map_err(|e| e.to_string())?;
            let mut outbox = Outbox::new(send);
            // It may be stopped half-way; what counts is the answer.
            let _ = outbox.send(vec![Bytes::copy_from_slice(bytes)]).await;
            hear(receive).await
        })
    }

    /// The refusal that these bytes meet.
    fn refusal_of(&self, bytes: &[u8]) -> Refused {
        let (envelope, body) = self.say(bytes).expect("an answer");
        match wire::decode_reply(&envelope, Kind::Refused, body) {
            Ok(Reply::Refused(refused)) => refused,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Says Hello as `hello` does, and must be let in.
    fn introduce(&self, hello: Hello) {
        let bytes = request(hello.node.0, CLUSTER, &Request::Hello(hello));
        let (envelope, _) = self.say(&bytes).expect("an answer");
        assert_eq!(envelope.kind, Kind::Hello);
    }

    /// Why the other side closed the connection.
    fn end(&self) -> ConnectionError {
        self.runtime.block_on(self.connection.closed())
    }
}

async fn hear(receive: quinn::RecvStream) -> Result<(Envelope, Bytes), String> {
    let mut inbox = Inbox::new(receive);
    let envelope = inbox.envelope().await.map_err(|error| format!("{error:?}"))?;
    let body = inbox.body(&envelope).await.map_err(|error| format!("{error:?}"))?;
    Ok((envelope, body))
}

fn request(from: u64, cluster: ClusterId, request: &Request) -> Vec<u8> {
    let (from, to, shard) = (NodeId(from), NodeId(2), ShardId::NONE);
    let stamp = Stamp { cluster, from, to, request_id: 5, shard };
    wire::encode_request(&stamp, request).expect("a request").concat()
}

fn hello_of(node: u64) -> Hello {
    Hello {
        node: NodeId(node),
        cluster: CLUSTER,
        versions: (envelope::VERSION, envelope::VERSION),
        features: 0,
        boot_id: [0; 16],
        class: 1,
        address: String::new(),
    }
}

fn still_answers(a: &QuicTransport) {
    for class in Class::ALL {
        assert_eq!(wait(a.call(Call { class, ..ask() })), answer_of_3(), "{class:?}");
    }
}

/// Bytes by chance, from a seed that a failing test prints.
struct Chance(Seeds);

impl Chance {
    fn new() -> Chance {
        let seed = entropy::random_u64();
        println!("seed {seed}");
        Chance(Seeds::from_seed(seed))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0.next_seed() as usize % end
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.0.next_seed() as u8).collect()
    }
}

#[test]
fn datagrams_of_rubbish_disturb_nobody() {
    let (a, b) = pair();
    wait(a.call(ask())).expect("an answer");
    let mut chance = Chance::new();
    let socket = UdpSocket::bind(any_port()).expect("a socket");
    for round in 0..20_000 {
        let len = 8 + chance.below(1400);
        let mut bytes = chance.bytes(len);
        // A fifth each looks like the start of a handshake, or like a packet of a connection.
        match round % 5 {
            0 => bytes[..5].copy_from_slice(&[0xc3, 0, 0, 0, 1]),
            1 => bytes[0] = 0x43,
            _ => {}
        }
        let _ = socket.send_to(&bytes, b.local_address());
        if round % 1000 == 0 {
            assert_eq!(wait(a.call(ask())), answer_of_3());
        }
    }
    still_answers(&a);
    assert_eq!(a.peers()[0].links[0].reconnects, 0);
}

/// First packets of handshakes that will never go on.
fn first_packets(count: usize) -> Vec<Vec<u8>> {
    let client = client_of(&options(9).identity);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let endpoint = Endpoint::client(any_port()).expect("an endpoint");
    let mut packet = [0; 2000];
    let one = |_| {
        // Each to a socket of its own, which takes the first and no later one.
        let sink = UdpSocket::bind(any_port()).expect("a socket");
        sink.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let there = sink.local_addr().expect("its address");
        let connecting = endpoint.connect_with(client.clone(), there, tls::NAME_OF_ANY);
        let _connecting = connecting.expect("a way");
        runtime.block_on(time::sleep(Duration::from_millis(1)));
        let len = sink.recv(&mut packet).expect("a packet");
        packet[..len].to_vec()
    };
    (0..count).map(one).collect()
}

#[test]
fn a_flood_of_handshakes_takes_a_bounded_place_and_is_counted() {
    let mut options = options(2);
    options.limits.handshake_timeout = Duration::from_millis(1500);
    let b = QuicTransport::start(options).expect("a transport");
    b.serve(obliging());
    let packets = first_packets(200);
    let socket = UdpSocket::bind(any_port()).expect("a socket");
    for packet in &packets {
        socket.send_to(packet, b.local_address()).expect("sent");
    }
    eventually("the flood has arrived", || b.net.gate.waiting() >= 32);
    // Who comes now must show that its address is its own, and is let in.
    let a = start(1);
    a.set_peer(NodeId(2), &address(&b));
    still_answers(&a);
    assert_eq!(b.net.gate.waiting(), 32, "the rest was asked to come back");
    eventually("they are given up", || b.net.gate.waiting() == 0);
    assert_eq!(b.refused(), RefusedCounts { handshakes: 32, ..RefusedCounts::default() });
}

#[test]
fn handshakes_above_the_bound_are_refused() {
    let mut options = options(2);
    options.limits.handshakes_max = 8;
    let b = QuicTransport::start(options).expect("a transport");
    let socket = UdpSocket::bind(any_port()).expect("a socket");
    for packet in first_packets(20) {
        socket.send_to(&packet, b.local_address()).expect("sent");
    }
    // Two more places are for peers.
    eventually("fourteen are refused", || b.refused().busy == 14);
    assert_eq!(b.net.gate.waiting(), 6);
}

/// Between a client and `to`, seen there under a stranger's address: passes everything on to it, and
/// of what comes back only the demand to show that the address is the client's own.
fn silencing(to: SocketAddr) -> SocketAddr {
    let stranger = UdpSocket::bind("127.0.0.2:0").expect("a socket");
    let near = UdpSocket::bind(any_port()).expect("a socket");
    let address = near.local_addr().expect("its address");
    let client = Arc::<Mutex<Option<SocketAddr>>>::default();
    for socket in [&stranger, &near] {
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    }
    let (back, known) = (near.try_clone().expect("a socket"), client.clone());
    let sender = stranger.try_clone().expect("a socket");
    std::thread::spawn(move || {
        let mut packet = [0; 2000];
        while let Ok((len, from)) = near.recv_from(&mut packet) {
            *known.lock() = Some(from);
            let _ = sender.send_to(&packet[..len], to);
        }
    });
    std::thread::spawn(move || {
        let mut packet = [0; 2000];
        while let Ok(len) = stranger.recv(&mut packet) {
            let is_retry = packet[0] & 0xf0 == 0xf0;
            if let Some(client) = client.lock().filter(|_| is_retry) {
                let _ = back.send_to(&packet[..len], client);
            }
        }
    });
    address
}

/// Strangers who begin handshakes, show that their address is their own, and go silent.
#[test]
fn strangers_that_go_silent_do_not_keep_a_peer_out() {
    let mut options = options(2);
    options.limits.trusts_loopback = false;
    options.limits.handshakes_trusted = 4;
    options.limits.handshakes_max = 16;
    options.limits.handshakes_each = 3;
    let timeout = options.limits.handshake_timeout;
    let b = QuicTransport::start(options).expect("a transport");
    b.serve(obliging());
    let a = start(1);
    b.set_peer(NodeId(1), &address(&a));
    a.set_peer(NodeId(2), &address(&b));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = client_of(&super::options(9).identity);
    let endpoint = {
        let _inside = runtime.enter();
        Endpoint::client(any_port()).expect("an endpoint")
    };
    let since = std::time::Instant::now();
    let ways: Vec<SocketAddr> = (0..32).map(|_| silencing(b.local_address())).collect();
    let _connecting: Vec<_> = runtime.block_on(async {
        let connect = |way| endpoint.connect_with(client.clone(), way, tls::NAME_OF_ANY);
        let connecting = ways.into_iter().map(|way| connect(way).expect("a way")).collect();
        time::sleep(Duration::from_millis(500)).await;
        connecting
    });
    assert!(b.net.gate.waiting() >= 3, "they have not come");
    still_answers(&a);
    assert!(since.elapsed() < timeout, "they have gone by now");
    assert_eq!(b.net.gate.waiting(), 3, "they have more places than they may");
}

#[test]
fn nodes_with_different_secrets_do_not_talk() {
    let (a, b) = pair();
    let mut other = options(5);
    other.identity = Identity::from_secrets(NodeId(5), OTHER_SECRET).expect("an identity");
    let stranger = QuicTransport::start(other).expect("a transport");
    stranger.set_peer(NodeId(2), &address(&b));
    let error = wait(stranger.call(ask())).expect_err("refused");
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("CAIRN_CLUSTER_SECRET"), "{error}");
    eventually("both have counted it", || {
        stranger.refused().certificates == 1 && b.refused().certificates == 1
    });
    still_answers(&a);
}

/// Believes everyone.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// Has nothing to prove itself with.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn who_does_not_judge_is_judged_all_the_same() {
    let (a, b) = pair();
    let stranger = Identity::from_secrets(NodeId(1), OTHER_SECRET).expect("an identity");
    let mut with_wrong = stranger.client_config().expect("a configuration");
    with_wrong.dangerous().set_certificate_verifier(Arc::new(Credulous));
    let mut with_none = with_wrong.clone();
    with_none.client_auth_cert_resolver = Arc::new(NoCertificate);
    for (count, config) in [with_wrong, with_none].into_iter().enumerate() {
        let impostor = Impostor::connect(quic_client(config), &b);
        let hello = request(1, CLUSTER, &Request::Hello(hello_of(1)));
        impostor.say(&hello).expect_err("no answer");
        assert!(dial::is_about_certificates(&impostor.end()));
        eventually("it is counted", || b.refused().certificates == count as u64 + 1);
    }
    still_answers(&a);
}

#[test]
fn a_node_at_anothers_address_is_not_taken_for_it() {
    let (a, b) = pair();
    a.set_peer(NodeId(3), &address(&b));
    let error = wait(a.call(Call { to: NodeId(3), ..ask() })).expect_err("refused");
    assert!(matches!(error, CallError::Unreachable { to: NodeId(3), .. }), "{error}");
    assert!(error.to_string().contains("certificate not accepted"), "{error}");
    assert_eq!(a.refused().certificates, 1);
    still_answers(&a);
}

#[test]
fn a_certificate_that_names_no_node_proves_nobody() {
    let (a, b) = pair();
    for (count, names) in [&["localhost"][..], &["node-1.cairn", "node-2.cairn"]].iter().enumerate()
    {
        let identity = Identity::with_names(SECRET, names);
        let impostor = Impostor::connect(client_of(&identity), &b);
        match impostor.end() {
            ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.reason, "the certificate names no node");
            }
            other => panic!("{other}"),
        }
        assert_eq!(b.refused().certificates, count as u64 + 1);
    }
    still_answers(&a);
}

#[test]
fn another_version_is_refused_and_both_are_named() {
    let (a, b) = pair();
    let mut newer = request(9, CLUSTER, &Request::Hello(hello_of(9)));
    newer[4] = 0x63;
    let versions = (2, 7);
    let newer_only = request(9, CLUSTER, &Request::Hello(Hello { versions, ..hello_of(9) }));
    for (count, (bytes, theirs)) in
        [(newer, "version 99"), (newer_only, "2 to 7")].iter().enumerate()
    {
        let impostor = Impostor::of_node(9, &b);
        let refused = impostor.refusal_of(bytes);
        assert_eq!(refused.code, RefusedCode::Version);
        let ours = format!("version {}", envelope::VERSION);
        assert!(refused.text.contains(theirs) && refused.text.contains(&ours), "{}", refused.text);
        assert!(matches!(impostor.end(), ConnectionError::ApplicationClosed(_)));
        assert_eq!(b.refused().versions, count as u64 + 1);
    }
    still_answers(&a);
}

#[test]
fn a_node_of_another_cluster_is_refused_and_both_are_named() {
    let (a, b) = pair();
    let elsewhere = ClusterId([8; 16]);
    let other = QuicTransport::start(Options { cluster: elsewhere, ..options(4) });
    let other = other.expect("a transport");
    other.set_peer(NodeId(2), &address(&b));
    let error = wait(other.call(ask())).expect_err("refused");
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&CLUSTER.to_string()) && text.contains(&elsewhere.to_string()), "{text}");
    assert_eq!(b.refused(), RefusedCounts { clusters: 1, ..RefusedCounts::default() });
    let request = Request::ReadIndex(ReadIndexRequest);
    let asked = wait(other.ask_address(&address(&b), request, DEADLINE));
    assert!(
        matches!(&asked, Err(CallError::Refused { refused, .. }) if refused.code == RefusedCode::Cluster),
        "{asked:?}"
    );
    still_answers(&a);
}

#[test]
fn a_node_of_no_cluster_may_introduce_itself_and_no_more() {
    let (_a, b) = pair();
    let newcomer = QuicTransport::start(Options { cluster: ClusterId::NONE, ..options(6) });
    let newcomer = newcomer.expect("a transport");
    newcomer.set_peer(NodeId(2), &address(&b));
    let introduce = Introduce {
        member: Member { node: NodeId(6), address: String::new() },
        expect: 3,
        shards: 1,
        cluster: ClusterId::NONE,
        met: Vec::new(),
    };
    let request = Request::Introduce(introduce.clone());
    let met = wait(newcomer.call(Call { request, ..ask() }));
    // The reply comes from a cluster, and may.
    assert_eq!(met, Ok(Reply::Introduce(introduce)));
    let refused = wait(newcomer.call(ask()));
    assert!(
        matches!(&refused, Err(CallError::Refused { refused, .. }) if refused.code == RefusedCode::Cluster),
        "{refused:?}"
    );
    newcomer.set_cluster(CLUSTER);
    assert_eq!(wait(newcomer.call(ask())), answer_of_3());
}

#[test]
fn claims_of_another_identity_are_refused() {
    let (a, b) = pair();
    let read = Request::ReadIndex(ReadIndexRequest);
    // In the first message: in its envelope, and in the Hello itself.
    let in_envelope = request(5, CLUSTER, &Request::Hello(hello_of(5)));
    let in_hello = request(9, CLUSTER, &Request::Hello(hello_of(5)));
    for bytes in [in_envelope, in_hello] {
        let impostor = Impostor::of_node(9, &b);
        let refused = impostor.refusal_of(&bytes);
        assert_eq!(refused.code, RefusedCode::Identity, "{}", refused.text);
        assert!(matches!(impostor.end(), ConnectionError::ApplicationClosed(_)));
    }
    // Later, when it has been let in as who it is.
    let impostor = Impostor::of_node(9, &b);
    impostor.introduce(hello_of(9));
    let refused = impostor.refusal_of(&request(5, CLUSTER, &read));
    assert_eq!(refused.code, RefusedCode::Identity, "{}", refused.text);
    impostor.say(&request(9, CLUSTER, &read)).expect("an answer under its own name");
    assert_eq!(b.refused(), RefusedCounts { identities: 3, ..RefusedCounts::default() });
    still_answers(&a);
}

#[test]
fn nothing_is_heard_before_hello_nor_hello_twice() {
    let (a, b) = pair();
    let impostor = Impostor::of_node(9, &b);
    let read = request(9, CLUSTER, &Request::ReadIndex(ReadIndexRequest));
    assert_eq!(impostor.refusal_of(&read).code, RefusedCode::Malformed);
    assert!(matches!(impostor.end(), ConnectionError::ApplicationClosed(_)));
    let impostor = Impostor::of_node(9, &b);
    impostor.introduce(hello_of(9));
    let again = request(9, CLUSTER, &Request::Hello(hello_of(9)));
    assert_eq!(impostor.refusal_of(&again).code, RefusedCode::Malformed);
    still_answers(&a);
}

#[test]
fn who_never_says_hello_is_not_waited_for() {
    let mut options = options(2);
    options.limits.handshake_timeout = Duration::from_millis(300);
    let b = QuicTransport::start(options).expect("a transport");
    let impostor = Impostor::of_node(9, &b);
    impostor.end();
    assert_eq!(b.refused(), RefusedCounts { handshakes: 1, ..RefusedCounts::default() });
    eventually("its place is free", || b.net.connections.load(Ordering::Relaxed) == 0);
}

#[test]
fn claimed_lengths_are_neither_believed_nor_exceeded() {
    let (a, b) = pair();
    let impostor = Impostor::of_node(9, &b);
    impostor.introduce(hello_of(9));
    let read = request(9, CLUSTER, &Request::ReadIndex(ReadIndexRequest));
    let envelope = Envelope::decode(&read).expect("an envelope");
    let too_long = [
        Envelope { head_len: u32::MAX, ..envelope },
        Envelope { payload_len: envelope::PAYLOAD_BYTES_MAX as u32 + 1, ..envelope },
    ];
    for envelope in too_long {
        let refused = impostor.refusal_of(&envelope.encode());
        assert_eq!(refused.code, RefusedCode::Malformed);
        assert!(refused.text.contains("limit"), "{}", refused.text);
    }
    // Less than announced, and more.
    let less = Envelope { payload_len: envelope::PAYLOAD_BYTES_MAX as u32, ..envelope };
    assert_eq!(impostor.refusal_of(&less.encode()).code, RefusedCode::Malformed);
    let more = [&read[..], b"and more"].concat();
    assert_eq!(impostor.refusal_of(&more).code, RefusedCode::Malformed);
    let endless = [read, vec![0; 40 << 20]].concat();
    assert_eq!(impostor.refusal_of(&endless).code, RefusedCode::Malformed);
    assert_eq!(b.refused(), RefusedCounts { malformed: 5, ..RefusedCounts::default() });
    still_answers(&a);
}

#[test]
fn streams_of_rubbish_are_refused_one_by_one() {
    let (a, b) = pair();
    let impostor = Impostor::of_node(9, &b);
    impostor.introduce(hello_of(9));
    let good = request(9, CLUSTER, &echo(Bytes::from(vec![1; 300])).request);
    let mut chance = Chance::new();
    for round in 0..500 {
        let bytes = if round % 2 == 0 {
            let len = chance.below(300);
            chance.bytes(len)
        } else {
            let mut bytes = good.clone();
            // Not the shard (56..60): any is as good as another. Its checksum does not fit then.
            bytes[chance.below(good.len())] ^= 1 << chance.below(8);
            bytes
        };
        let refused = impostor.refusal_of(&bytes);
        assert_ne!(refused.code, RefusedCode::Failed, "{}", refused.text);
    }
    let counts = b.refused();
    assert_eq!(counts.malformed + counts.versions, 500, "{counts:?}");
    impostor.say(&good).expect("what is no rubbish is answered");
    still_answers(&a);
}

#[test]
fn a_slow_stream_is_not_waited_for() {
    let mut options = options(2);
    options.limits.message_timeout = Duration::from_millis(200);
    let b = QuicTransport::start(options).expect("a transport");
    b.serve(obliging());
    let impostor = Impostor::of_node(9, &b);
    impostor.introduce(hello_of(9));
    let refused = impostor.runtime.block_on(async {
        let (mut send, receive) = impostor.connection.open_bi().await.expect("a stream");
        send.write_all(&request(9, CLUSTER, &echo(Bytes::new()).request)[..50])
            .await
            .expect("sent");
        let (envelope, body) = hear(receive).await.expect("an answer");
        wire::decode_reply(&envelope, Kind::Refused, body).expect("a refusal")
    });
    let text = format!("{refused:?}");
    assert!(text.contains("did not arrive within 200 ms"), "{text}");
    assert_eq!(b.refused().malformed, 1);
}

#[test]
fn a_request_that_was_given_up_half_way_is_no_fault() {
    let (a, b) = pair();
    // A sender that holds little itself: the request is given up in its middle.
    let mut client = client_of(&options(9).identity);
    let mut narrow = quinn::TransportConfig::default();
    narrow.send_window(64 << 10);
    client.transport_config(Arc::new(narrow));
    let impostor = Impostor::connect(client, &b);
    impostor.introduce(hello_of(9));
    let long = request(9, CLUSTER, &echo(Bytes::from(vec![7; 16 << 20])).request);
    impostor.runtime.block_on(async {
        let (send, _receive) = impostor.connection.open_bi().await.expect("a stream");
        let mut outbox = Outbox::new(send);
        let sending = outbox.send(vec![Bytes::from(long)]);
        assert!(time::timeout(Duration::from_millis(5), sending).await.is_err(), "all was sent");
        drop(outbox);
        // Time for what was sent to arrive and be judged.
        time::sleep(Duration::from_millis(300)).await;
    });
    impostor.say(&request(9, CLUSTER, &ask().request)).expect("an answer");
    still_answers(&a);
    assert_eq!(b.refused(), RefusedCounts::default());
}

#[test]
fn one_peer_cannot_take_more_places_than_it_has() {
    let mut options = options(2);
    options.limits.calls_max = 4;
    let b = QuicTransport::start(options).expect("a transport");
    let handled = Arc::new(AtomicUsize::new(0));
    let count = handled.clone();
    b.serve(Arc::new(move |_: Incoming| -> BoxFuture<Result<Reply, Refused>> {
        count.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::pending())
    }));
    let impostor = Impostor::of_node(9, &b);
    impostor.introduce(hello_of(9));
    let read = Bytes::from(request(9, CLUSTER, &ask().request));
    // Given up by the one who asks, they are still being handled.
    let give_up_many = async {
        loop {
            let (send, mut receive) = impostor.connection.open_bi().await.expect("a stream");
            Outbox::new(send).send(vec![read.clone()]).await.expect("sent");
            receive.stop(VarInt::from_u32(0)).expect("given up");
        }
    };
    let limit = Duration::from_millis(500);
    impostor.runtime.block_on(async { time::timeout(limit, give_up_many).await }).expect_err("end");
    assert_eq!(handled.load(Ordering::Relaxed), 4);
}
