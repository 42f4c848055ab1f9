//! etcd: three of its processes, and a client that speaks its gRPC over HTTP/2 and nothing more, so
//! that etcd is not charged for the JSON gateway in front of it, nor for a slow client.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command as Program, Stdio};
use std::time::Duration;

use bytes::Bytes;
use cairn_tests::bench::value;
use cairn_tests::ports::{self, PEERS_ABOVE};
use cairn_tests::process;
use cairn_tests::rng::Rng;
use h2::client::SendRequest;
use serde_json::Value;

use cairn_tests::load::{BatchFuture, Client, Command, OpenFuture, Shape, key};

/// Three etcd processes on this machine. They are killed when dropped.
pub struct Etcd {
    members: Vec<Member>,
}

struct Member {
    process: Child,
    client: SocketAddr,
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Etcd {
    /// Starts them with their data below `dir` and waits until one leads.
    ///
    /// # Panics
    /// They do not come up.
    pub fn start(program: &Path, dir: &Path) -> Etcd {
        let first = ports::claim(3);
        let addresses =
            |port| [0, PEERS_ABOVE].map(|above| SocketAddr::from(([127, 0, 0, 1], port + above)));
        let ports: Vec<[SocketAddr; 2]> = (first..first + 3).map(addresses).collect();
        let peers = ports.iter().zip(0..).map(|([_, peer], at)| format!("n{at}=http://{peer}"));
        let peers = peers.collect::<Vec<_>>().join(",");
        let members = ports.iter().zip(0..).map(|([client, peer], at)| {
            let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
            let process = Program::new(program)
                .args(["--name", &format!("n{at}"), "--data-dir"])
                .arg(dir.join(format!("n{at}")))
                .args(["--listen-client-urls", &client_url, "--advertise-client-urls"])
                .args([&client_url, "--listen-peer-urls", &peer_url])
                .args(["--initial-advertise-peer-urls", &peer_url, "--initial-cluster", &peers])
                .args(["--logger", "zap", "--log-level", "error"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
            Member { process, client: *client }
        });
        let etcd = Etcd { members: members.collect() };
        let leads = || etcd.members.iter().any(|member| member.leads() == Some(true));
        assert!(process::eventually(Duration::from_secs(30), leads), "etcd elects no leader");
        etcd
    }

    /// All processes.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.process.id()).collect()
    }

    /// Where the leader listens, and another member.
    pub fn leader_and_follower(&self) -> [SocketAddr; 2] {
        [true, false].map(|leads| {
            let member = self.members.iter().find(|member| member.leads() == Some(leads));
            member.expect("three members, one of which leads").client
        })
    }
}

impl Member {
    /// What its status says; None while it does not answer or knows no leader.
    fn leads(&self) -> Option<bool> {
        let status = post(self.client, "/v3/maintenance/status").ok()?;
        let (own, leader) = (status["header"]["member_id"].as_str()?, status["leader"].as_str()?);
        Some(own == leader)
    }
}

/// Asks the gateway, with an empty request.
fn post(address: SocketAddr, path: &str) -> io::Result<Value> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let head = format!("POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: 2\r\n\r\n{{}}");
    stream.write_all(head.as_bytes())?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(io::Error::other)
}

/// A connection, which carries a batch's calls side by side.
struct Grpc {
    calls: SendRequest<Bytes>,
    shape: Shape,
    value: Vec<u8>,
}

/// To etcd. A batch is as many calls at once.
pub fn grpc(address: SocketAddr, shape: Shape) -> OpenFuture {
    Box::pin(async move { Ok(Box::new(Grpc::open(address, shape).await?) as Box<dyn Client>) })
}

impl Client for Grpc {
    fn batch<'a>(&'a mut self, rng: &'a mut Rng) -> BatchFuture<'a> {
        Box::pin(async move {
            let mut sent = Vec::with_capacity(self.shape.pipeline as usize);
            for _ in 0..self.shape.pipeline {
                let key = key(rng.below(self.shape.keys));
                let (method, body) = match self.shape.command {
                    Command::Set => ("Put", message(&[&key, &self.value])),
                    Command::Get => ("Range", message(&[&key])),
                };
                sent.push(self.call(method, body).await.map_err(io::Error::other)?);
            }
            let least = if self.shape.command == Command::Get { self.value.len() } else { 0 };
            for answer in sent {
                let len = answer.await?;
                if len < least {
                    return Err(io::Error::other(format!("an answer of {len} bytes")));
                }
            }
            Ok(())
        })
    }
}

/// Sets the keys `0..count`.
///
/// # Errors
/// The connection breaks, or a call fails.
pub fn load(address: SocketAddr, count: u64) -> io::Result<()> {
    const AT_ONCE: u64 = 256;
    let shape = Shape {
        command: Command::Set,
        connections: 1,
        pipeline: AT_ONCE,
        keys: count,
        seconds: 0.0,
        seed: 0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut grpc = Grpc::open(address, shape).await?;
        for first in (0..count).step_by(AT_ONCE as usize) {
            let mut sent = Vec::new();
            for number in first..(first + AT_ONCE).min(count) {
                let body = message(&[&key(number), &value(number, 0)]);
                sent.push(grpc.call("Put", body).await.map_err(io::Error::other)?);
            }
            for answer in sent {
                answer.await?;
            }
        }
        Ok(())
    })
}

impl Grpc {
    async fn open(address: SocketAddr, shape: Shape) -> io::Result<Grpc> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        // Short answers that wait to be looked at are no attack here.
        let made = h2::client::Builder::new().data_frame_budget(1 << 30).handshake(stream).await;
        let (calls, connection) = made.map_err(io::Error::other)?;
        // It ends with the last call that could be made on it.
        tokio::task::spawn_local(connection);
        Ok(Grpc { calls, shape, value: value(1, 1) })
    }

    /// Sends a call; what is returned waits for its answer, and says how long that is.
    async fn call(
        &mut self,
        method: &str,
        body: Bytes,
    ) -> Result<impl Future<Output = io::Result<usize>> + use<>, h2::Error> {
        let request = http::Request::post(format!("http://etcd/etcdserverpb.KV/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a sound request");
        let mut calls = self.calls.clone().ready().await?;
        let (answer, mut stream) = calls.send_request(request, false)?;
        stream.send_data(body, true)?;
        Ok(async move { receive(answer.await.map_err(io::Error::other)?).await })
    }
}

/// Reads an answer to its end: gRPC says there how the call went.
async fn receive(answer: http::Response<h2::RecvStream>) -> io::Result<usize> {
    let mut body = answer.into_body();
    let mut len = 0;
    while let Some(bytes) = body.data().await {
        let bytes = bytes.map_err(io::Error::other)?;
        len += bytes.len();
        body.flow_control().release_capacity(bytes.len()).map_err(io::Error::other)?;
    }
    let trailers = body.trailers().await.map_err(io::Error::other)?.unwrap_or_default();
    match trailers.get("grpc-status") {
        Some(status) if status == "0" => Ok(len),
        _ => Err(io::Error::other(format!("etcd answers {trailers:?}"))),
    }
}

/// A gRPC message (uncompressed, length first) of a protobuf with byte strings as its fields 1, 2...
fn message(fields: &[&[u8]]) -> Bytes {
    let mut body = vec![0; 5];
    for (number, field) in (1u8..).zip(fields) {
        // Field number and wire type 2; lengths under 128 are a single byte.
        body.extend([number << 3 | 2, u8::try_from(field.len()).expect("a short field")]);
        assert!(field.len() < 128, "a short field");
        body.extend_from_slice(field);
    }
    let len = (body.len() - 5) as u32;
    body[1..5].copy_from_slice(&len.to_be_bytes());
    Bytes::from(body)
}
