//! A whole node in this process, spoken to over TCP: what no single room can show.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cairn_node::node::Node;
use cairn_node::ops::config::{Invocation, Settings, parse_command_line};
use cairn_node::ops::telemetry::LogControl;
use cairn_node::server::stop::{Stop, Why};

struct Running {
    address: SocketAddr,
    ready: String,
    stop: Arc<Stop>,
    thread: JoinHandle<Result<(), String>>,
}

fn settings(dir: &Path, flags: &[&str]) -> Settings {
    let dir = dir.display().to_string();
    let fixed = ["cairn", "--dir", &dir, "--port", "0", "--memory", "256mb"];
    let args = fixed.iter().chain(flags).map(Into::into);
    match parse_command_line(args) {
        Ok(Invocation::Server(settings)) => *settings,
        other => panic!("{flags:?} gives {other:?}"),
    }
}

fn start(dir: &Path, flags: &[&str]) -> Running {
    let node = Node::start(settings(dir, flags), Instant::now(), LogControl::none())
        .unwrap_or_else(|error| panic!("{error}"));
    let (address, stop) = (node.addresses()[0], node.stop_handle());
    let ready = node.ready_line().to_owned();
    let thread = std::thread::spawn(move || node.run());
    Running { address, ready, stop, thread }
}

impl Running {
    fn stop(self) {
        self.stop.ask(Why::Command);
        assert_eq!(self.thread.join().expect("the node does not panic"), Ok(()));
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).expect("the node listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        Client { reader: BufReader::new(stream) }
    }
}

struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).expect("the node reads");
    }

    /// One line, or one bulk string's content.
    fn reply(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a reply");
        let line = line.trim_end_matches(['\r', '\n']).to_owned();
        match line.strip_prefix('$').map(str::parse::<usize>) {
            Some(Ok(len)) => {
                let mut bytes = vec![0; len + 2];
                self.reader.read_exact(&mut bytes).expect("the rest of a bulk string");
                String::from_utf8_lossy(&bytes[..len]).into_owned()
            }
            _ => line,
        }
    }

    fn ask(&mut self, request: &str) -> String {
        self.send(request.as_bytes());
        self.send(b"\r\n");
        self.reply()
    }

    fn is_closed(&mut self) -> bool {
        matches!(self.reader.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// tmpfs, where the machine has it: its log path differs from that of files.
fn memory_scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| scratch())
}

fn bulk(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[test]
fn a_pipeline_is_answered_in_order_on_memory_and_on_files() {
    for dir in [memory_scratch(), scratch()] {
        let node = start(dir.path(), &[]);
        let mut client = node.connect();
        client.send(
            b"GET k\r\nSET k 1\r\nGET k\r\nPING\r\nINCR k\r\nECHO hi\r\nNOPE\r\nGET k\r\n\
              SELECT 1\r\nGET k\r\nSET k other\r\nCLIENT GETNAME\r\nSELECT 0\r\nGET k\r\nINCR\r\n",
        );
        let replies: Vec<String> = (0..15).map(|_| client.reply()).collect();
        assert_eq!(
            replies,
            [
                "$-1",
                "+OK",
                "1",
                "+PONG",
                ":2",
                "hi",
                "-ERR unknown command 'NOPE', with args beginning with: ",
                "2",
                "+OK",
                "$-1",
                "+OK",
                "$-1",
                "+OK",
                "2",
                "-ERR wrong number of arguments for 'incr' command",
            ]
        );
        node.stop();
    }
}

#[test]
fn many_connections_write_at_once_and_nothing_is_lost_over_a_restart() {
    for dir in [memory_scratch(), scratch()] {
        let node = start(dir.path(), &["--io-threads", "3"]);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut client = node.connect();
                    for _ in 0..25 {
                        client.send(&b"INCR counter\r\n".repeat(20));
                        (0..20).for_each(|_| assert!(client.reply().starts_with(':')));
                    }
                });
            }
        });
        node.stop();
        let node = start(dir.path(), &[]);
        assert!(node.ready.contains("1 keys"), "{}", node.ready);
        assert!(node.ready.contains("0 log records replayed"), "{}", node.ready);
        assert_eq!(node.connect().ask("GET counter"), "4000");
        node.stop();
    }
}

#[test]
fn a_long_value_goes_in_pieces_and_comes_back_whole() {
    let dir = memory_scratch();
    let node = start(dir.path(), &[]);
    let mut client = node.connect();
    let value: Vec<u8> = (0..5_000_000u32).map(|i| (i % 251) as u8 + 1).collect();
    client.send(&bulk(&[b"SET", b"long", &value, b"EX", b"100"]));
    assert_eq!(client.reply(), "+OK");
    assert_eq!(client.ask("STRLEN long"), ":5000000");
    client.send(&bulk(&[b"APPEND", b"long", &value[..2_000_000]]));
    assert_eq!(client.reply(), ":7000000");
    client.send(b"GETRANGE long 4999999 5000001\r\n");
    let wanted = [value[4_999_999], value[0], value[1]];
    assert_eq!(client.reply(), String::from_utf8_lossy(&wanted));
    let huge = vec![b'x'; 300 << 20];
    client.send(&bulk(&[b"SET", b"huge", &huge]));
    assert!(client.reply().starts_with("-OOM"));
    assert_eq!(client.ask("DBSIZE"), ":1");
    node.stop();
}

#[test]
fn a_broken_request_is_told_and_closed_after_what_came_before_it() {
    let dir = memory_scratch();
    let node = start(dir.path(), &[]);
    let mut client = node.connect();
    client.send(b"SET k v\r\n*1\r\n$x\r\n");
    assert_eq!(client.reply(), "+OK");
    assert_eq!(client.reply(), "-ERR Protocol error: invalid bulk length");
    assert!(client.is_closed());
    assert_eq!(node.connect().ask("GET k"), "v");
    node.stop();
}

#[test]
fn a_password_is_asked_for_and_strangers_may_send_little() {
    let dir = memory_scratch();
    let node = start(dir.path(), &["--requirepass", "secret"]);
    let mut client = node.connect();
    assert_eq!(client.ask("GET k"), "-NOAUTH Authentication required.");
    assert!(client.ask("AUTH wrong").starts_with("-WRONGPASS"));
    // The login takes effect for what follows it in one packet.
    let long = vec![b'x'; 20_000];
    client.send(&[&b"AUTH secret\r\n"[..], &bulk(&[b"SET", b"k", &long])].concat());
    assert_eq!(client.reply(), "+OK");
    assert_eq!(client.reply(), "+OK");
    let mut stranger = node.connect();
    stranger.send(&bulk(&[b"SET", b"k", &long]));
    assert_eq!(stranger.reply(), "-ERR Protocol error: unauthenticated bulk length");
    assert!(stranger.is_closed());
    node.stop();
}

#[test]
fn clients_are_listed_killed_and_counted() {
    let dir = memory_scratch();
    let node = start(dir.path(), &["--maxclients", "2"]);
    let (mut one, mut two) = (node.connect(), node.connect());
    assert_eq!(two.ask("CLIENT SETNAME idle"), "+OK");
    let list = one.ask("CLIENT LIST");
    assert!(list.contains(" name=idle "), "{list}");
    let mut third = node.connect();
    assert_eq!(third.reply(), "-ERR max number of clients reached");
    assert!(third.is_closed());
    assert_eq!(one.ask("CLIENT KILL TYPE normal"), ":1");
    assert!(two.is_closed());
    assert_eq!(one.ask("CONFIG SET maxclients 5"), "+OK");
    assert_eq!(one.ask("CLIENT REPLY SKIP\r\nSET a 1\r\nPING"), "+PONG");
    assert_eq!(one.ask("CLIENT REPLY OFF\r\nSET a 2\r\nGET a\r\nCLIENT REPLY ON"), "+OK");
    assert_eq!(one.ask("GET a"), "2");
    assert_eq!(one.ask("CLIENT KILL SKIPME no"), ":1");
    assert!(one.is_closed());
    node.stop();
}

#[test]
fn a_client_that_reads_nothing_is_bounded_then_closed() {
    let dir = memory_scratch();
    let node = start(dir.path(), &["--output-stall-timeout", "1", "--io-threads", "1"]);
    let mut greedy = node.connect();
    let value = vec![b'v'; 1 << 20];
    greedy.send(&bulk(&[b"SET", b"k", &value]));
    assert_eq!(greedy.reply(), "+OK");
    // Far more replies than the kernel's buffers take.
    greedy.send(&b"GET k\r\n".repeat(200));
    let start = Instant::now();
    let mut other = node.connect();
    while other.ask("CLIENT LIST").lines().count() > 1 {
        assert!(start.elapsed() < Duration::from_secs(15), "it is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(other.ask("INFO stats").contains("client_output_buffer_limit_disconnections:1"));
    node.stop();
}

#[test]
fn a_second_node_on_the_directory_is_refused_with_the_pid() {
    let dir = memory_scratch();
    let node = start(dir.path(), &[]);
    let second = Node::start(settings(dir.path(), &[]), Instant::now(), LogControl::none());
    let refusal = second.err().expect("the directory is in use").to_string();
    assert!(refusal.contains(&format!("pid {}", std::process::id())), "{refusal}");
    node.stop();
}

#[test]
fn keys_sees_the_writes_before_it_and_keeps_its_place() {
    let dir = memory_scratch();
    let node = start(dir.path(), &[]);
    let mut client = node.connect();
    client.send(b"SET a 1\r\nKEYS *\r\nDEL a\r\nKEYS *\r\nPING\r\n");
    let replies: Vec<String> = (0..6).map(|_| client.reply()).collect();
    assert_eq!(replies, ["+OK", "*1", "a", ":1", "*0", "+PONG"]);
    node.stop();
}

#[test]
fn slow_commands_are_kept_one_by_one_when_asked_for() {
    let dir = memory_scratch();
    let node = start(dir.path(), &["--slowlog-log-slower-than", "0"]);
    let mut client = node.connect();
    client.send(b"SET a 1\r\nGET a\r\nSET b 2\r\nSLOWLOG LEN\r\n");
    (0..3).for_each(|_| drop(client.reply()));
    assert_eq!(client.reply(), ":3");
    let info = client.ask("INFO commandstats");
    assert!(info.contains("cmdstat_set:calls=2,"), "{info}");
    node.stop();
}

#[test]
fn expired_keys_are_reclaimed_unless_told_not_to() {
    let dir = memory_scratch();
    let node = start(dir.path(), &[]);
    let mut client = node.connect();
    assert_eq!(client.ask("DEBUG SET-ACTIVE-EXPIRE 0"), "+OK");
    assert_eq!(client.ask("SET k v PX 1"), "+OK");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(client.ask("GET k"), "$-1");
    assert!(client.ask("INFO stats").contains("expired_keys:0"));
    assert_eq!(client.ask("DEBUG SET-ACTIVE-EXPIRE 1"), "+OK");
    std::thread::sleep(Duration::from_millis(500));
    assert!(client.ask("INFO stats").contains("expired_keys:1"));
    node.stop();
}

#[test]
fn a_log_without_its_pool_and_a_pool_without_its_log_are_refused() {
    let dir = scratch();
    let node = start(dir.path(), &["--epoch-ms", "5"]);
    let mut client = node.connect();
    for i in 0..20 {
        assert_eq!(client.ask(&format!("SET k{i} v")), "+OK");
        std::thread::sleep(Duration::from_millis(5));
    }
    node.stop();
    let start_again = || {
        let node = Node::start(settings(dir.path(), &[]), Instant::now(), LogControl::none());
        node.err().map(|error| error.to_string())
    };
    let log = dir.path().join("log");
    std::fs::rename(&log, dir.path().join("elsewhere")).expect("the log is there");
    let refusal = start_again().expect("the log is gone");
    assert!(refusal.contains("the log was removed"), "{refusal}");
    std::fs::remove_dir_all(&log).expect("a new log was begun");
    std::fs::rename(dir.path().join("elsewhere"), &log).expect("the log comes back");
    std::fs::remove_file(dir.path().join("shard-0.pool")).expect("the pool is there");
    let refusal = start_again().expect("the pool is gone");
    assert!(refusal.contains("the pool is missing"), "{refusal}");
}

#[test]
fn long_reads_see_exactly_the_writes_before_them_on_their_connection() {
    // More keys than a reader may take while it holds others up.
    const KEYS: usize = 1500;
    let dir = memory_scratch();
    let node = start(dir.path(), &[]);
    let mut client = node.connect();
    let names: Vec<String> = (0..KEYS).map(|n| format!("k{n}")).collect();
    let read = bulk(
        &[&[&b"MGET"[..]], &names.iter().map(String::as_bytes).collect::<Vec<_>>()[..]].concat(),
    );
    let silenced = [&b"CLIENT REPLY SKIP\r\n"[..], &read].concat();
    let pipeline = [
        &read[..],
        b"SET k0 first\r\n",
        &read,
        b"GET k0\r\n",
        b"SET k0 second\r\n",
        &silenced,
        &read,
        b"SET k0 third\r\nPING\r\n",
    ]
    .concat();
    client.send(&pipeline);
    let array = |client: &mut Client| {
        assert_eq!(client.reply(), format!("*{KEYS}"));
        let values: Vec<String> = (0..KEYS).map(|_| client.reply()).collect();
        assert!(values[1..].iter().all(|value| value == "$-1"));
        values[0].clone()
    };
    assert_eq!(array(&mut client), "$-1");
    assert_eq!(client.reply(), "+OK");
    assert_eq!(array(&mut client), "first");
    assert_eq!([client.reply(), client.reply()], ["first", "+OK"]);
    assert_eq!(array(&mut client), "second");
    assert_eq!([client.reply(), client.reply()], ["+OK", "+PONG"]);
    assert_eq!(client.ask("GET k0"), "third");
    node.stop();
}

#[test]
fn limits_of_encodings_are_kept_and_shared() {
    let dir = memory_scratch();
    let node = start(dir.path(), &[]);
    let mut client = node.connect();
    let get = |client: &mut Client, name: &str| {
        assert_eq!(client.ask(&format!("CONFIG GET {name}")), "*2");
        [client.reply(), client.reply()][1].clone()
    };
    assert_eq!(get(&mut client, "hash-max-ziplist-entries"), "512");
    assert_eq!(get(&mut client, "list-max-listpack-size"), "-2");
    let two = "CONFIG SET hash-max-listpack-entries 1 list-max-listpack-size -6";
    assert_eq!(client.ask(two), "+OK");
    assert_eq!(get(&mut client, "hash-max-ziplist-entries"), "1");
    for (name, value, reason) in [
        ("maxclients", "x", "argument couldn't be parsed into an integer"),
        ("hash-max-listpack-entries", "-1", "between 0 and 9223372036854775807 inclusive"),
        ("hash-max-listpack-value", "x", "argument must be a memory value"),
        ("list-max-listpack-size", "3000000000", "between -2147483648 and 2147483647 inclusive"),
    ] {
        let reply = client.ask(&format!("CONFIG SET set-max-intset-entries 7 {name} {value}"));
        let cause = format!("-ERR CONFIG SET failed (possibly related to argument '{name}') - ");
        assert!(reply.starts_with(&cause) && reply.ends_with(reason), "{reply}");
    }
    assert_eq!(get(&mut client, "set-max-intset-entries"), "512", "all or nothing");
    client.send(b"MULTI\r\nCONFIG SET hash-max-ziplist-value 3\r\nHSET h f 1234\r\nEXEC\r\n");
    let replies: Vec<String> = (0..6).map(|_| client.reply()).collect();
    assert_eq!(replies, ["+OK", "+QUEUED", "+QUEUED", "*2", "+OK", ":1"]);
    assert_eq!(client.ask("HSET g f 1234"), ":1");
    node.stop();
    let node = start(dir.path(), &[]);
    let mut client = node.connect();
    assert_eq!(get(&mut client, "list-max-ziplist-size"), "-6");
    assert_eq!(get(&mut client, "hash-max-listpack-value"), "3");
    assert_eq!(client.ask("OBJECT ENCODING g"), "hashtable");
    assert_eq!(client.ask("HSET new a 1 b 2"), ":2");
    assert_eq!(client.ask("OBJECT ENCODING new"), "hashtable");
    node.stop();
}
