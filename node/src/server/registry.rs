//! Who is connected: what CLIENT LIST prints, what CLIENT KILL looks for.
//!
//! A connection's task alone writes its [`Client`]; others read it, or mark it as killed and wake
//! the task. What changes with each batch is a relaxed atomic on a line of the connection's own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Instant;

use cairn_protocol::command::CommandId;
use cairn_protocol::resp::Proto;
use parking_lot::Mutex;

use crate::ops::clock;

/// What a client says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub lib_version: String,
}

/// One connection as others see it.
#[derive(Debug)]
pub struct Client {
    /// Rising over the node's life, never used twice.
    pub id: u64,
    /// The peer.
    pub address: SocketAddr,
    /// This end.
    pub local: SocketAddr,
    /// The socket's number in this process.
    pub fd: i32,
    /// When it was accepted.
    pub since: Instant,
    names: Mutex<Names>,
    waker: Mutex<Option<Waker>>,
    killed: AtomicBool,
    no_evict: AtomicBool,
    no_touch: AtomicBool,
    resp3: AtomicBool,
    db: AtomicU16,
    last_command: AtomicU16,
    /// Commands queued since MULTI, -1 without one; their bytes; keys watched.
    queued: AtomicI64,
    queued_bytes: AtomicU64,
    watched: AtomicU64,
    /// Milliseconds after `since` of the last bytes from the client.
    active_ms: AtomicU64,
    /// Bytes of an incomplete request.
    query_bytes: AtomicU64,
    /// Bytes of replies that wait to be taken, and since when in milliseconds after `since`.
    output_bytes: AtomicU64,
    output_since_ms: AtomicU64,
}

/// What changes with each batch.
#[derive(Clone, Copy, Debug)]
pub struct Activity {
    /// The database in use.
    pub db: u16,
    /// The protocol spoken.
    pub proto: Proto,
    /// The last command.
    pub last: CommandId,
    /// Commands queued since MULTI and their bytes.
    pub queued: Option<(usize, usize)>,
    /// Keys watched.
    pub watched: usize,
}

impl Client {
    /// A client that has just connected.
    pub fn new(id: u64, address: SocketAddr, local: SocketAddr, fd: i32) -> Client {
        Client {
            id,
            address,
            local,
            fd,
            since: clock::now(),
            names: Mutex::default(),
            waker: Mutex::default(),
            killed: AtomicBool::new(false),
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            resp3: AtomicBool::new(false),
            db: AtomicU16::new(0),
            last_command: AtomicU16::new(u16::MAX),
            queued: AtomicI64::new(-1),
            queued_bytes: AtomicU64::new(0),
            watched: AtomicU64::new(0),
            active_ms: AtomicU64::new(0),
            query_bytes: AtomicU64::new(0),
            output_bytes: AtomicU64::new(0),
            output_since_ms: AtomicU64::new(0),
        }
    }

    /// What it calls itself.
    pub fn names(&self) -> Names {
        self.names.lock().clone()
    }

    /// Changes what it calls itself.
    pub fn set_names(&self, change: impl FnOnce(&mut Names)) {
        change(&mut self.names.lock());
    }

    /// Sets CLIENT NO-EVICT.
    pub fn set_no_evict(&self, on: bool) {
        self.no_evict.store(on, Ordering::Relaxed);
    }

    /// Sets CLIENT NO-TOUCH.
    pub fn set_no_touch(&self, on: bool) {
        self.no_touch.store(on, Ordering::Relaxed);
    }

    /// Notes a batch that was read at `now`.
    pub fn note(&self, now: Instant, activity: Activity) {
        self.active_ms.store(self.age_ms(now), Ordering::Relaxed);
        self.db.store(activity.db, Ordering::Relaxed);
        self.resp3.store(activity.proto == Proto::Resp3, Ordering::Relaxed);
        self.last_command.store(activity.last as u16, Ordering::Relaxed);
        let (queued, bytes) = activity.queued.unwrap_or_default();
        let queued = if activity.queued.is_some() { queued as i64 } else { -1 };
        self.queued.store(queued, Ordering::Relaxed);
        self.queued_bytes.store(bytes as u64, Ordering::Relaxed);
        self.watched.store(activity.watched as u64, Ordering::Relaxed);
    }

    /// Keys that it watches.
    pub fn watched(&self) -> u64 {
        self.watched.load(Ordering::Relaxed)
    }

    /// Notes how many bytes of an incomplete request are held.
    pub fn note_query(&self, bytes: usize) {
        self.query_bytes.store(bytes as u64, Ordering::Relaxed);
    }

    /// Notes how many bytes of replies the client has yet to take; called when that changes.
    pub fn note_output(&self, now: Instant, bytes: usize) {
        self.output_since_ms.store(self.age_ms(now), Ordering::Relaxed);
        self.output_bytes.store(bytes as u64, Ordering::Relaxed);
    }

    /// Milliseconds since the last bytes from the client.
    pub fn idle_ms(&self, now: Instant) -> u64 {
        self.age_ms(now).saturating_sub(self.active_ms.load(Ordering::Relaxed))
    }

    /// Bytes of replies that wait to be taken.
    pub fn waiting_bytes(&self) -> u64 {
        self.output_bytes.load(Ordering::Relaxed)
    }

    /// For how many milliseconds replies have waited without any being taken; 0 if none wait.
    pub fn stalled_ms(&self, now: Instant) -> u64 {
        if self.output_bytes.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.age_ms(now).saturating_sub(self.output_since_ms.load(Ordering::Relaxed))
    }

    /// Lets others wake the connection's task.
    pub fn set_waker(&self, waker: Waker) {
        *self.waker.lock() = Some(waker);
    }

    /// Tells the connection to close, and wakes it up for that.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.wake();
    }

    /// Has the connection's task look around: it may be killed, or the node may be stopping.
    pub fn wake(&self) {
        let waker = self.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether it was told to close.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Drops the waker, without which the task's memory would outlive the connection in this.
    pub fn clear_waker(&self) {
        *self.waker.lock() = None;
    }

    fn age_ms(&self, now: Instant) -> u64 {
        clock::millis(now.saturating_duration_since(self.since))
    }

    /// One line of CLIENT LIST, without its end. Source: the CLIENT LIST page.
    pub fn line(&self, now: Instant) -> String {
        let names = self.names();
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let (query, output) = (load(&self.query_bytes), load(&self.output_bytes));
        let queued = load(&self.queued_bytes);
        let command = CommandId::from_u16(self.last_command.load(Ordering::Relaxed));
        format!(
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub=0 psub=0 \
             ssub=0 multi={} watch={} qbuf={query} qbuf-free=0 argv-mem=0 multi-mem={queued} rbs=0 \
             rbp=0 obl=0 oll={} omem={output} tot-mem={} events=r cmd={} user=default redir=-1 resp={} \
             lib-name={} lib-ver={}",
            self.id,
            self.address,
            self.local,
            self.fd,
            names.name,
            self.age_ms(now) / 1000,
            self.idle_ms(now) / 1000,
            self.flags(),
            self.db.load(Ordering::Relaxed),
            self.queued.load(Ordering::Relaxed),
            self.watched(),
            u8::from(output > 0),
            query + output + queued + size_of::<Client>() as u64,
            command.map_or("NULL", |id| id.spec().name),
            if self.resp3.load(Ordering::Relaxed) { 3 } else { 2 },
            names.lib_name,
            names.lib_version,
        )
    }

    fn flags(&self) -> String {
        let named = [(&self.no_evict, 'e'), (&self.no_touch, 'T')];
        let mut set: String =
            named.iter().filter(|(flag, _)| flag.load(Ordering::Relaxed)).map(|(_, c)| c).collect();
        if self.queued.load(Ordering::Relaxed) >= 0 {
            set.insert(0, 'x');
        }
        if set.is_empty() { "N".into() } else { set }
    }
}

/// What CLIENT KILL and CLIENT LIST look for; every part that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these; empty means any.
    pub ids: Vec<u64>,
    /// The peer, as CLIENT LIST prints it.
    pub address: Option<String>,
    /// This end.
    pub local: Option<String>,
    /// False for types of client that a lone node has none of.
    pub normal: Option<bool>,
}

impl Filter {
    /// Whether `client` is looked for.
    pub fn fits(&self, client: &Client) -> bool {
        (self.ids.is_empty() || self.ids.contains(&client.id))
            && self.address.as_ref().is_none_or(|a| *a == client.address.to_string())
            && self.local.as_ref().is_none_or(|a| *a == client.local.to_string())
            && self.normal.unwrap_or(true)
    }
}

/// All connections.
#[derive(Debug, Default)]
pub struct Registry {
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
    last_id: AtomicU64,
    /// Tells this life of the node from others, in which clients had the same numbers.
    life: u32,
}

impl Registry {
    /// That of a node which begins a life of this number, drawn at random.
    pub fn new(life: u32) -> Registry {
        Registry { life, ..Registry::default() }
    }

    /// This life's number.
    pub fn life(&self) -> u32 {
        self.life
    }

    /// A number for a new client.
    pub fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a client.
    pub fn insert(&self, client: Arc<Client>) {
        self.clients.lock().insert(client.id, client);
    }

    /// Removes one that has gone.
    pub fn remove(&self, id: u64) {
        self.clients.lock().remove(&id);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of them watch keys.
    pub fn watching(&self) -> u64 {
        self.clients.lock().values().filter(|client| client.watched() > 0).count() as u64
    }

    /// Those that fit, by rising number.
    pub fn matching(&self, filter: &Filter) -> Vec<Arc<Client>> {
        self.clients.lock().values().filter(|client| filter.fits(client)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        let registry = Registry::default();
        for port in [1001, 1002, 1003] {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let local = SocketAddr::from(([127, 0, 0, 1], 6379));
            registry.insert(Arc::new(Client::new(registry.next_id(), address, local, 9)));
        }
        registry
    }

    fn ids(filter: &Filter) -> Vec<u64> {
        registry().matching(filter).iter().map(|client| client.id).collect()
    }

    #[test]
    fn filters_must_all_fit() {
        let local = Some("127.0.0.1:6379".to_owned());
        assert_eq!(ids(&Filter::default()), [1, 2, 3]);
        assert_eq!(ids(&Filter { ids: vec![3, 1, 7], ..Filter::default() }), [1, 3]);
        let address = Some("127.0.0.1:1002".to_owned());
        assert_eq!(ids(&Filter { address: address.clone(), ..Filter::default() }), [2]);
        assert_eq!(ids(&Filter { address, ids: vec![1], ..Filter::default() }), [0; 0]);
        assert_eq!(ids(&Filter { local: local.clone(), ids: vec![1], ..Filter::default() }), [1]);
        assert_eq!(ids(&Filter { normal: Some(false), local, ..Filter::default() }), [0; 0]);
    }

    #[test]
    fn a_line_has_the_fields_of_redis_in_their_order() {
        let clients = registry().matching(&Filter::default());
        let client = &clients[0];
        client.set_names(|names| names.name = "worker".into());
        client.set_no_evict(true);
        let now = clock::now();
        let (proto, last) = (Proto::Resp3, CommandId::ClientList);
        let mut activity = Activity { db: 3, proto, last, queued: Some((4, 99)), watched: 2 };
        client.note(now, activity);
        client.note_output(now, 77);
        let line = client.line(now);
        assert!(
            line.starts_with("id=1 addr=127.0.0.1:1001 laddr=127.0.0.1:6379 fd=9 name=worker ")
        );
        for part in [
            " db=3 ",
            " flags=xe ",
            " omem=77 ",
            " cmd=client|list ",
            " resp=3 ",
            " multi=4 watch=2 ",
            " multi-mem=99 ",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        let fields: Vec<&str> =
            line.split(' ').filter_map(|field| field.split('=').next()).collect();
        assert_eq!(
            fields.join(" "),
            "id addr laddr fd name age idle flags db sub psub ssub multi watch \
            qbuf qbuf-free argv-mem multi-mem rbs rbp obl oll omem tot-mem events cmd user redir \
            resp lib-name lib-ver"
        );
        activity.queued = None;
        client.note(now, activity);
        assert!(client.line(now).contains(" flags=e ") && client.line(now).contains(" multi=-1 "));
    }

    #[test]
    fn a_killed_client_knows() {
        let clients = registry().matching(&Filter::default());
        assert!(!clients[0].is_killed());
        clients[0].kill();
        assert!(clients[0].is_killed());
    }
}
