//! What a node proves itself with, and how it judges the proofs of others.
//!
//! A secret that the nodes of a cluster share derives the key of the cluster's own authority (CA);
//! under it each node issues itself a certificate, anew at every start. Or an operator's
//! certificates are given. Either way a certificate names its node: `node-ID.cairn`, and the name
//! is checked on both sides, so that who asks is never a matter of what a message claims.
//!
//! Sessions are never resumed and nothing is sent before the handshake ends: such data could be
//! replayed. Certificates issued here do not expire: a clock that is off must not part a cluster.
//! What ends them is a new secret.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use cairn_protocol::ids::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519,
};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring as ring_provider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, PeerMisbehaved,
    RootCertStore, ServerConfig, SignatureScheme,
};

/// What both sides of a connection must name in their first message; other protocols do not.
const ALPN: &[u8] = b"cairn-peer";
/// The bits that a secret must be able to hold.
const SECRET_BITS_MIN: f64 = 128.0;
/// How many different characters it must have: fewer are no result of chance.
const SECRET_VARIETY_MIN: usize = 8;
/// How many secrets may be valid at once: the one in use and the one before or after it.
const SECRETS_MAX: usize = 2;

/// Why a node has nothing to prove itself with.
#[derive(Debug)]
pub enum IdentityError {
    /// The secret could be guessed.
    WeakSecret {
        /// The bits it may hold at most.
        bits: u32,
    },
    /// More secrets than can be valid at once.
    ManySecrets {
        /// How many were given.
        found: usize,
    },
    /// A file cannot be used.
    File {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// The certificate given names no node, or another one.
    Name {
        /// The name that it must have.
        wanted: String,
    },
    /// Keys or certificates do not fit, or none could be made.
    Tls {
        /// Why.
        why: String,
    },
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WeakSecret { bits } => write!(
                f,
                "the cluster secret holds at most {bits} bits, {SECRET_BITS_MIN} are needed: \
                 generate one with `openssl rand -hex 32` and give the same to every node"
            ),
            Self::ManySecrets { found } => write!(
                f,
                "{found} cluster secrets were given, at most {SECRETS_MAX} are valid at once: \
                 give the new one and the one before it"
            ),
            Self::File { path, why } => write!(f, "{path} cannot be used: {why}"),
            Self::Name { wanted } => write!(
                f,
                "the certificate given does not name this node: issue one whose only DNS name \
                 of a node is {wanted}"
            ),
            Self::Tls { why } => write!(f, "no certificate for this node: {why}"),
        }
    }
}

impl std::error::Error for IdentityError {}

fn tls_error(error: impl fmt::Display) -> IdentityError {
    IdentityError::Tls { why: error.to_string() }
}

/// What a node proves itself with, and whom it believes.
pub struct Identity {
    node: NodeId,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    reset_seed: [u8; 32],
}

/// Keys are not shown.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Identity {
    /// From the secret that all nodes share. Two may be given, with a comma between them: this
    /// node's certificate is issued under the first, those of others are believed under either.
    /// (To change it without a pause: restart every node with `OLD,NEW`, then with `NEW,OLD`, then
    /// with `NEW`.)
    ///
    /// # Errors
    /// [`IdentityError::WeakSecret`], [`IdentityError::ManySecrets`], [`IdentityError::Tls`].
    pub fn from_secrets(node: NodeId, secrets: &str) -> Result<Identity, IdentityError> {
        let secrets: Vec<&str> = secrets.split(',').map(str::trim).collect();
        if secrets.len() > SECRETS_MAX {
            return Err(IdentityError::ManySecrets { found: secrets.len() });
        }
        secrets.iter().try_for_each(|secret| check_secret(secret))?;
        let authorities = secrets
            .iter()
            .map(|secret| Authority::derive(secret))
            .collect::<Result<Vec<_>, _>>()?;
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots.add(authority.certificate.clone()).map_err(tls_error)?;
        }
        let (certificate, key) = authorities[0].issue(vec![name_of(node)])?;
        let reset_seed = derive(secrets[0].as_bytes(), &["reset", &node.to_string()]);
        let chain = vec![certificate];
        Ok(Identity { node, chain, key, roots: Arc::new(roots), reset_seed })
    }

    /// From an operator's PEM files: the authorities that are believed, this node's certificate
    /// with what leads to one of them, and its key. The certificate is for both sides of TLS and
    /// has the DNS name that [`name_of`] gives.
    ///
    /// # Errors
    /// [`IdentityError::File`], [`IdentityError::Name`], [`IdentityError::Tls`].
    pub fn from_files(
        node: NodeId,
        ca: &Path,
        certificate: &Path,
        key: &Path,
    ) -> Result<Identity, IdentityError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates_in(ca)? {
            roots.add(authority).map_err(|error| file_error(ca, error))?;
        }
        let chain = certificates_in(certificate)?;
        if node_of(&chain[0]) != Some(node) {
            return Err(IdentityError::Name { wanted: name_of(node) });
        }
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(key, error))?;
        let reset_seed = derive(private.secret_der(), &["reset", &node.to_string()]);
        Ok(Identity { node, chain, key: private, roots: Arc::new(roots), reset_seed })
    }

    /// As from a secret, but with a certificate that has these names.
    #[cfg(test)]
    pub(super) fn with_names(secret: &str, names: &[&str]) -> Identity {
        let mut identity = Identity::from_secrets(NodeId(0), secret).expect("an identity");
        let authority = Authority::derive(secret).expect("an authority");
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let (certificate, key) = authority.issue(names).expect("a certificate");
        (identity.chain, identity.key) = (vec![certificate], key);
        identity
    }

    /// Whom it proves.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Thirty-two bytes that are this node's at every start and that no other knows.
    pub(super) fn reset_seed(&self) -> [u8; 32] {
        self.reset_seed
    }

    /// How this node judges who connects to it: anyone whom an authority vouches for. Who that is,
    /// [`node_of`] says afterwards.
    pub(super) fn server_config(&self) -> Result<ServerConfig, IdentityError> {
        let judge = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider())
            .build()
            .map_err(tls_error)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(tls_error)?
            .with_client_cert_verifier(judge)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(tls_error)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// How it judges whom it connects to: the node asked for ([`name_of`]), or any
    /// ([`NAME_OF_ANY`]).
    pub(super) fn client_config(&self) -> Result<ClientConfig, IdentityError> {
        let judge = PeerJudge { roots: self.roots.clone(), provider: provider() };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(tls_error)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(judge))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(tls_error)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(config)
    }
}

/// The name that a node's certificate has.
pub fn name_of(node: NodeId) -> String {
    format!("node-{node}.cairn")
}

/// The name to ask for where the node is not known yet.
pub(super) const NAME_OF_ANY: &str = "any-node.cairn";

/// Whom the certificate in a PEM file names.
///
/// # Errors
/// [`IdentityError::File`], [`IdentityError::Name`].
pub fn node_in(certificate: &Path) -> Result<NodeId, IdentityError> {
    let chain = certificates_in(certificate)?;
    let wanted = || "node-N.cairn, with a number N that no other node has or had".to_owned();
    node_of(&chain[0]).ok_or_else(|| IdentityError::Name { wanted: wanted() })
}

/// Whom a certificate names: exactly one node, or None.
pub(super) fn node_of(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut nodes = certificate.valid_dns_names().filter_map(parse_name);
    nodes.next().filter(|_| nodes.next().is_none())
}

fn parse_name(name: &str) -> Option<NodeId> {
    let number = name.strip_prefix("node-")?.strip_suffix(".cairn")?;
    let node = NodeId(number.parse().ok().filter(|number| *number != 0)?);
    // One spelling for each node: no sign, no leading zeros.
    (name_of(node) == name).then_some(node)
}

/// What the characters of a secret could hold if each were drawn by chance.
fn check_secret(secret: &str) -> Result<(), IdentityError> {
    let drawn: Vec<char> =
        secret.chars().filter(|c| c.is_ascii_alphanumeric() || "+/_".contains(*c)).collect();
    let any = |of: fn(&char) -> bool| drawn.iter().any(of);
    let is_hex = drawn.iter().all(char::is_ascii_hexdigit);
    let alphabet = if is_hex {
        if any(char::is_ascii_alphabetic) { 16 } else { 10 }
    } else {
        let sizes = [
            (any(char::is_ascii_digit), 10),
            (any(char::is_ascii_lowercase), 26),
            (any(char::is_ascii_uppercase), 26),
            (any(|c| !c.is_ascii_alphanumeric()), 2),
        ];
        sizes.iter().filter(|(used, _)| *used).map(|(_, size)| size).sum()
    };
    let mut different = drawn.clone();
    different.sort_unstable();
    different.dedup();
    let bits = drawn.len() as f64 * f64::from(alphabet.max(1)).log2();
    if bits < SECRET_BITS_MIN || different.len() < SECRET_VARIETY_MIN {
        let bits = if bits < SECRET_BITS_MIN { bits } else { different.len() as f64 };
        return Err(IdentityError::WeakSecret { bits: bits as u32 });
    }
    Ok(())
}

/// Thirty-two bytes for one purpose, from which neither the secret nor those for another follow.
fn derive(secret: &[u8], purpose: &[&str]) -> [u8; 32] {
    struct Bytes32;
    impl KeyType for Bytes32 {
        fn len(&self) -> usize {
            32
        }
    }
    let info: Vec<&[u8]> = purpose.iter().map(|part| part.as_bytes()).collect();
    let mut out = [0; 32];
    Salt::new(HKDF_SHA256, b"cairn cluster 1")
        .extract(secret)
        .expand(&info, Bytes32)
        .and_then(|okm| okm.fill(&mut out))
        .expect("32 bytes are within what HKDF gives, and as many as are asked for");
    out
}

/// The authority that a secret stands for: the same key and name wherever it is derived.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn derive(secret: &str) -> Result<Authority, IdentityError> {
        let key = ed25519_from(derive(secret.as_bytes(), &["authority"]))?;
        let mut params = CertificateParams::default();
        // Two secrets are two names: a certificate is tried against the right one.
        let mark = u32::from_le_bytes(std::array::from_fn(|i| key.public_key_raw()[i]));
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, format!("cairn cluster {mark:08x}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).map_err(tls_error)?.into();
        Ok(Authority { issuer: Issuer::new(params, key), certificate })
    }

    fn issue(
        &self,
        names: Vec<String>,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(tls_error)?;
        let mut params = CertificateParams::new(names).map_err(tls_error)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(tls_error)?;
        Ok((certificate.into(), key.into()))
    }
}

/// An Ed25519 key is any 32 bytes, wrapped as PKCS #8 (RFC 8410, section 7).
fn ed25519_from(seed: [u8; 32]) -> Result<KeyPair, IdentityError> {
    const PREFIX: [u8; 16] =
        [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let pkcs8 = PrivatePkcs8KeyDer::from([&PREFIX[..], &seed].concat());
    KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ED25519).map_err(tls_error)
}

fn file_error(path: &Path, error: impl fmt::Display) -> IdentityError {
    IdentityError::File { path: path.display().to_string(), why: error.to_string() }
}

/// At least one.
fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file_error(path, error))?;
    if found.is_empty() {
        return Err(file_error(path, "no PEM certificate in it"));
    }
    Ok(found)
}

/// The cheapest cipher first: AES-128 is as far beyond reach as AES-256.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring_provider::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// Judges the node that was dialled: its chain, then the one name that matters here.
#[derive(Debug)]
struct PeerJudge {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PeerJudge {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        wanted: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        let found = node_of(certificate).ok_or(CertificateError::NotValidForName)?;
        let wanted = wanted.to_str();
        if wanted != NAME_OF_ANY && wanted != name_of(found) {
            return Err(CertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // QUIC has no TLS 1.2.
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "8f2d6c1e9b3a4f5071829304a5b6c7d8";

    #[test]
    fn a_secret_that_could_be_guessed_is_refused() {
        let weak = [
            "",
            "secret",
            "0123456789012345678901234567",
            "8f2d6c1e9b3a4f5071829304a5b6c7",
            "correcthorsebatterystaple",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ];
        for secret in weak {
            let error = Identity::from_secrets(NodeId(1), secret).expect_err(secret);
            assert!(error.to_string().contains("openssl rand -hex 32"), "{error}");
        }
        let strong = [
            SECRET,
            "550e8400-e29b-41d4-a716-446655440000",
            "q7Zk2LxNw9TtVb0YcR4uHs",
            "Jx/+Kq0_z5RmW8dPnE3vGg==",
        ];
        for secret in strong {
            Identity::from_secrets(NodeId(1), secret).expect(secret);
        }
    }

    #[test]
    fn at_most_two_secrets_are_valid() {
        let three = format!("{SECRET},{SECRET},{SECRET}");
        let error = Identity::from_secrets(NodeId(1), &three).expect_err("three");
        assert!(matches!(error, IdentityError::ManySecrets { found: 3 }));
        let half = format!("{SECRET},");
        Identity::from_secrets(NodeId(1), &half).expect_err("the second is empty");
    }

    #[test]
    fn the_authority_is_the_secrets_and_the_certificate_the_nodes() {
        let [a, b] = [7, 8].map(|node| Identity::from_secrets(NodeId(node), SECRET).expect("one"));
        assert_eq!(a.roots.roots, b.roots.roots);
        assert_ne!(a.reset_seed, b.reset_seed);
        assert_eq!(node_of(&a.chain[0]), Some(NodeId(7)));
        let other = Identity::from_secrets(NodeId(7), &SECRET.replace('8', "9")).expect("another");
        assert_ne!(a.roots.roots, other.roots.roots);
        assert!(!format!("{a:?}").contains("key"));
    }

    #[test]
    fn names_have_one_spelling() {
        assert_eq!(parse_name(&name_of(NodeId(u64::MAX))), Some(NodeId(u64::MAX)));
        for name in ["node-07.cairn", "node-+7.cairn", "node-.cairn", "node-7", "any-node.cairn"] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
