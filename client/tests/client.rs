//! The client against a server of a few lines that says what each test wants to hear.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cairn_client::{Action, Client, Cmd, Error, Options, Value};
use cairn_protocol::resp::{Frames, Limits, RequestDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server answers to a request (in lower case, joined by spaces); `None` hangs up.
type Script = Arc<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>;

/// Starts a server; returns its address and a count of the connections it has seen.
async fn serve(
    script: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (script, seen): (Script, _) = (Arc::new(script), Arc::new(AtomicUsize::new(0)));
    let count = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(converse(stream, script.clone()));
        }
    });
    (address, seen)
}

async fn converse(mut stream: TcpStream, script: Script) -> Option<()> {
    let mut decoder = RequestDecoder::new(Limits::AUTHENTICATED);
    let (mut buf, mut frames) = (Vec::new(), Frames::new());
    loop {
        if stream.read_buf(&mut buf).await.ok()? == 0 {
            return None;
        }
        frames.clear();
        let consumed = decoder.decode(&buf, &mut frames, usize::MAX).ok()?;
        for i in 0..frames.len() {
            let words: Vec<_> = frames.argv(i, &buf).iter().map(String::from_utf8_lossy).collect();
            let request = words.join(" ").to_lowercase();
            let reply = match request.as_str() {
                r if r.starts_with("hello") => script(r).or(Some(b"%0\r\n".to_vec())),
                r if r.starts_with("client setinfo") => Some(b"+OK\r\n".to_vec()),
                r => script(r),
            };
            stream.write_all(&reply?).await.ok()?;
        }
        buf.drain(..consumed);
    }
}

#[tokio::test]
async fn many_tasks_share_a_connection_and_get_their_own_replies() {
    let (address, seen) = serve(|request| {
        let word = request.strip_prefix("echo ")?;
        Some(format!("${}\r\n{word}\r\n", word.len()).into_bytes())
    })
    .await;
    // Fewer places than callers: some wait for room.
    let client = Client::open(Options::new(address).queue_capacity(8)).await.unwrap();
    let tasks: Vec<_> = (0..100)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(async move {
                let word = format!("word-{i}");
                let got: String = client.call(Cmd::new("ECHO").arg(&word)).await.unwrap();
                assert_eq!(got, word);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_pipeline_answers_each_request() {
    let (address, _) = serve(|request| {
        Some(match request {
            "bad" => b"-ERR no\r\n".to_vec(),
            _ => b":1\r\n>1\r\n+noise\r\n".to_vec(),
        })
    })
    .await;
    // More requests than the queue has places: a batch never waits for itself.
    let client = Client::open(Options::new(address).queue_capacity(2)).await.unwrap();
    let pipeline = client.pipeline().cmd(Cmd::new("A")).cmd(Cmd::new("BAD")).cmd(Cmd::new("C"));
    assert_eq!(pipeline.len(), 3);
    let replies = pipeline.execute().await.unwrap();
    assert!(matches!(replies[0], Ok(Value::Int(1))));
    assert!(matches!(&replies[1], Err(Error::Server(text)) if text == "ERR no"));
    assert!(matches!(replies[2], Ok(Value::Int(1))));
    assert!(client.pipeline().execute().await.unwrap().is_empty());
}

#[tokio::test]
async fn old_servers_are_spoken_to_in_resp2() {
    let (address, _) = serve(|request| {
        Some(match request {
            r if r.starts_with("hello") => b"-ERR unknown command 'hello'\r\n".to_vec(),
            "auth secret" | "client setname me" | "select 3" => b"+OK\r\n".to_vec(),
            "get k" => b"$-1\r\n".to_vec(),
            other => format!("-ERR unexpected {other}\r\n").into_bytes(),
        })
    })
    .await;
    let options = Options::new(address).password("secret").name("me").database(3);
    let client = Client::open(options).await.unwrap();
    assert_eq!(client.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_wrong_password_is_said_at_once() {
    let (address, _) = serve(|request| {
        assert_eq!(request, "hello 3 auth default wrong");
        Some(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n".to_vec())
    })
    .await;
    let error = Client::open(Options::new(address).password("wrong")).await.unwrap_err();
    assert_eq!(error.code(), Some("WRONGPASS"));
    assert_eq!(error.action(), Action::GiveUp);
}

#[tokio::test]
async fn a_lost_connection_fails_what_was_sent_and_is_replaced() {
    let (address, seen) = serve(|request| match request {
        "die" => None,
        _ => Some(b"+PONG\r\n".to_vec()),
    })
    .await;
    let client = Client::connect(address).await.unwrap();
    client.ping().await.unwrap();
    let error = client.call::<Value>(Cmd::new("DIE")).await.unwrap_err();
    assert!(matches!(error, Error::ConnectionLost(_)), "{error}");
    assert_eq!(error.action(), Action::GiveUp, "it may have been executed");
    client.ping().await.unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn late_replies_do_not_answer_later_requests() {
    let (address, _) = serve(|request| {
        if request == "slow" {
            std::thread::sleep(Duration::from_millis(150));
            return Some(b"+slow\r\n".to_vec());
        }
        Some(b"+fast\r\n".to_vec())
    })
    .await;
    let options = Options::new(address).reply_timeout(Duration::from_millis(50));
    let client = Client::open(options).await.unwrap();
    let slow = client.call::<String>(Cmd::new("SLOW")).await;
    assert!(matches!(slow, Err(Error::Timeout)), "{slow:?}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(client.call::<String>(Cmd::new("FAST")).await.unwrap(), "fast");
}

#[tokio::test]
async fn what_is_no_reply_closes_the_connection() {
    let (address, _) = serve(|request| match request {
        "nonsense" => Some(b"?!\r\n".to_vec()),
        "twice" => Some(b"+a\r\n+b\r\n".to_vec()),
        _ => Some(b"+PONG\r\n".to_vec()),
    })
    .await;
    let client = Client::connect(address).await.unwrap();
    let error = client.call::<Value>(Cmd::new("NONSENSE")).await.unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "{error}");
    client.ping().await.unwrap();
    // A reply that nobody asked for: whatever comes after it cannot be trusted.
    client.call::<Value>(Cmd::new("TWICE")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.ping().await.unwrap();
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Client::connect(&address).await.unwrap_err();
    assert!(error.to_string().contains(&address), "{error}");
    assert_eq!(error.action(), Action::Refresh);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = Options::new(listener.local_addr().unwrap().to_string());
    options.connect_timeout = Duration::from_millis(50);
    let error = Client::open(options).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

#[tokio::test]
async fn a_dropped_client_closes_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buf = vec![0; 1024];
        assert_ne!(stream.read(&mut buf).await.unwrap(), 0);
        stream.write_all(b"%0\r\n+OK\r\n+OK\r\n").await.unwrap();
        while stream.read(&mut buf).await.unwrap() > 0 {}
    });
    drop(Client::connect(address).await);
    tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
}
