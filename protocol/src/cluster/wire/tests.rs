//! Round trips of random messages, hostile bytes, and every message's bytes pinned by a fixture.

use std::fmt::Write;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

const STAMP: Stamp = Stamp {
    cluster: ClusterId([0xc1; 16]),
    from: NodeId(1),
    to: NodeId(2),
    request_id: 3,
    shard: ShardId(4),
};

fn join(pieces: Vec<Bytes>) -> Bytes {
    Bytes::from(pieces.concat())
}

fn split(mut bytes: Bytes) -> Result<(Envelope, Bytes), WireError> {
    let envelope = Envelope::decode(&bytes)?;
    Ok((envelope, bytes.split_off(envelope::BYTES)))
}

fn request_bytes(request: &Request) -> Bytes {
    join(encode_request(&STAMP, request).expect("fits"))
}

fn reply_bytes(reply: &Reply) -> Bytes {
    join(encode_reply(&STAMP, reply).expect("fits"))
}

/// How often random tests try, `CAIRN_SEEDS` times a small number.
fn runner() -> TestRunner {
    let seeds = std::env::var("CAIRN_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    TestRunner::new(Config { cases: 256 * seeds, failure_persistence: None, ..Config::default() })
}

fn vote() -> impl Strategy<Value = Vote> {
    any::<(u64, Option<u64>, bool)>().prop_map(|(term, node, committed)| Vote {
        term: Term(term),
        node: node.map(NodeId),
        committed,
    })
}

fn log_id() -> impl Strategy<Value = LogId> {
    any::<(u64, u64)>().prop_map(|(term, index)| LogId { term: Term(term), index: LogIndex(index) })
}

fn maybe_id() -> impl Strategy<Value = Option<LogId>> {
    prop::option::of(log_id())
}

/// Short, and now and then long enough to be a piece of its own.
fn payload() -> impl Strategy<Value = Bytes> {
    let len = prop_oneof![4 => 0..40usize, 1 => COPY_BYTES_BELOW - 1..COPY_BYTES_BELOW + 2];
    (len, any::<u8>()).prop_map(|(len, byte)| Bytes::from(vec![byte; len]))
}

fn text() -> impl Strategy<Value = String> {
    "[a-zé:0-9.]{0,40}"
}

fn member() -> impl Strategy<Value = Member> {
    (any::<u64>(), text()).prop_map(|(node, address)| Member { node: NodeId(node), address })
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    prop::collection::vec(member(), 0..5)
}

fn entry() -> impl Strategy<Value = Entry> {
    let kinds = [EntryKind::Blank, EntryKind::Operations, EntryKind::Membership];
    let kind = prop::sample::select(kinds.to_vec());
    (log_id(), kind, payload()).prop_map(|(id, kind, payload)| Entry { id, kind, payload })
}

fn cluster() -> impl Strategy<Value = ClusterId> {
    any::<[u8; 16]>().prop_map(ClusterId)
}

fn hello() -> impl Strategy<Value = Hello> {
    (any::<u64>(), cluster(), any::<((u16, u16), u64, [u8; 16], u8)>(), text()).prop_map(
        |(node, cluster, (versions, features, boot_id, class), address)| Hello {
            node: NodeId(node),
            cluster,
            versions,
            features,
            boot_id,
            class,
            address,
        },
    )
}

fn introduce() -> impl Strategy<Value = Introduce> {
    (member(), any::<(u32, u32)>(), cluster(), members()).prop_map(
        |(member, (expect, shards), cluster, met)| Introduce {
            member,
            expect,
            shards,
            cluster,
            met,
        },
    )
}

fn heartbeat() -> impl Strategy<Value = Heartbeat> {
    let beat = (any::<u32>(), vote(), maybe_id(), maybe_id())
        .prop_map(|(shard, vote, prev, commit)| Beat { shard: ShardId(shard), vote, prev, commit });
    (any::<(u64, u64)>(), prop::collection::vec(beat, 0..20))
        .prop_map(|((sequence, now_ms), groups)| Heartbeat { sequence, now_ms, groups })
}

fn append_reply() -> impl Strategy<Value = AppendReply> {
    prop_oneof![
        Just(AppendReply::Success),
        maybe_id().prop_map(AppendReply::Partial),
        Just(AppendReply::Conflict),
        vote().prop_map(AppendReply::HigherVote),
    ]
}

fn heartbeat_reply() -> impl Strategy<Value = HeartbeatReply> {
    let answer = (any::<u32>(), prop::option::of(append_reply()))
        .prop_map(|(shard, outcome)| BeatAnswer { shard: ShardId(shard), outcome });
    (any::<(u64, u64)>(), prop::collection::vec(answer, 0..20))
        .prop_map(|((sequence, now_ms), groups)| HeartbeatReply { sequence, now_ms, groups })
}

fn append() -> impl Strategy<Value = AppendEntries> {
    (vote(), maybe_id(), maybe_id(), prop::collection::vec(entry(), 0..20))
        .prop_map(|(vote, prev, commit, entries)| AppendEntries { vote, prev, commit, entries })
}

fn vote_request() -> impl Strategy<Value = VoteRequest> {
    (vote(), maybe_id(), any::<bool>()).prop_map(|(vote, last, leadership_transfer)| VoteRequest {
        vote,
        last,
        leadership_transfer,
    })
}

fn vote_reply() -> impl Strategy<Value = VoteReply> {
    (vote(), maybe_id(), any::<bool>()).prop_map(|(vote, last, granted)| VoteReply {
        vote,
        granted,
        last,
    })
}

fn snapshot_id() -> impl Strategy<Value = SnapshotId> {
    any::<[u8; 16]>().prop_map(SnapshotId)
}

fn snapshot_begin() -> impl Strategy<Value = SnapshotBegin> {
    (snapshot_id(), vote(), maybe_id(), maybe_id(), any::<u64>(), payload()).prop_map(
        |(id, vote, last, membership_at, reserve_bytes, membership)| SnapshotBegin {
            id,
            vote,
            last,
            membership_at,
            reserve_bytes,
            head: membership,
        },
    )
}

fn snapshot_chunk() -> impl Strategy<Value = SnapshotChunk> {
    (snapshot_id(), vote(), any::<(u64, u32)>(), payload()).prop_map(
        |(id, vote, (chunk, records), payload)| SnapshotChunk { id, vote, chunk, records, payload },
    )
}

fn forward() -> impl Strategy<Value = Forward> {
    let kind = prop::sample::select(&[ForwardKind::Write, ForwardKind::Read][..]);
    (kind, any::<(u64, u64, u8, u32, u32)>(), payload()).prop_map(
        |(kind, (session, sequence, resp, flags, count), payload)| Forward {
            kind,
            session,
            sequence,
            resp,
            flags,
            count,
            payload,
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let transfer = (vote(), any::<u64>(), maybe_id()).prop_map(|(from, to, last)| TransferLeader {
        from,
        to: NodeId(to),
        last,
    });
    let end = (snapshot_id(), vote(), any::<u64>()).prop_map(|(id, vote, chunks)| SnapshotEnd {
        id,
        vote,
        chunks,
    });
    let found = (cluster(), any::<u32>(), members()).prop_map(|(cluster, shards, members)| Found {
        cluster,
        shards,
        members,
    });
    let join = (member(), any::<u64>(), text(), any::<bool>());
    let join = join.prop_map(|(member, capacity_bytes, zone, kept)| Join {
        member,
        capacity_bytes,
        zone,
        kept,
    });
    prop_oneof![
        hello().prop_map(Request::Hello),
        introduce().prop_map(Request::Introduce),
        found.prop_map(Request::Found),
        join.prop_map(Request::Join),
        heartbeat().prop_map(Request::Heartbeat),
        append().prop_map(Request::Append),
        vote_request().prop_map(Request::Vote),
        vote_request().prop_map(Request::PreVote),
        transfer.prop_map(Request::TransferLeader),
        snapshot_begin().prop_map(Request::SnapshotBegin),
        snapshot_chunk().prop_map(Request::SnapshotChunk),
        end.prop_map(Request::SnapshotEnd),
        forward().prop_map(Request::Forward),
        Just(Request::ReadIndex(ReadIndexRequest)),
    ]
}

fn progress() -> impl Strategy<Value = SnapshotProgress> {
    (vote(), any::<(u64, bool)>()).prop_map(|(vote, (next_chunk, installed))| SnapshotProgress {
        vote,
        next_chunk,
        installed,
    })
}

fn leader() -> impl Strategy<Value = Option<NodeId>> {
    any::<Option<u64>>().prop_map(|node| node.map(NodeId))
}

fn small_replies() -> impl Strategy<Value = Reply> {
    let codes = [RefusedCode::Version, RefusedCode::Cluster, RefusedCode::Failed];
    let refused = (prop::sample::select(codes.to_vec()), text())
        .prop_map(|(code, text)| Reply::Refused(Refused { code, text }));
    let joined = prop_oneof![
        (cluster(), members()).prop_map(|(cluster, members)| Joined::Accepted { cluster, members }),
        prop::option::of(member()).prop_map(|leader| Joined::Elsewhere { leader }),
    ];
    prop_oneof![
        refused,
        joined.prop_map(Reply::Join),
        cluster().prop_map(|cluster| Reply::Found(Founded { cluster })),
        maybe_id().prop_map(|id| Reply::ReadIndex(ReadIndex::At(id))),
        leader().prop_map(|leader| Reply::ReadIndex(ReadIndex::NotLeader { leader })),
        leader().prop_map(|leader| Reply::Forward(Forwarded::NotLeader { leader })),
        (any::<(u32, u32)>(), payload()).prop_map(|((count, flags), payload)| {
            Reply::Forward(Forwarded::Done { count, flags, payload })
        }),
        Just(Reply::TransferLeader(TransferReply::Accepted)),
        (vote(), vote()).prop_map(|(expected, actual)| {
            Reply::TransferLeader(TransferReply::VoteChanged { expected, actual })
        }),
        (maybe_id(), maybe_id()).prop_map(|(expected, actual)| {
            Reply::TransferLeader(TransferReply::LogNotFlushed { expected, actual })
        }),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        4 => small_replies(),
        1 => hello().prop_map(Reply::Hello),
        1 => introduce().prop_map(Reply::Introduce),
        1 => heartbeat_reply().prop_map(Reply::Heartbeat),
        1 => append_reply().prop_map(Reply::Append),
        1 => vote_reply().prop_map(Reply::Vote),
        1 => vote_reply().prop_map(Reply::PreVote),
        1 => progress().prop_map(Reply::SnapshotBegin),
        1 => progress().prop_map(Reply::SnapshotChunk),
        1 => progress().prop_map(Reply::SnapshotEnd),
    ]
}

#[test]
fn requests_come_back_as_they_went() {
    runner()
        .run(&request(), |request| {
            let (envelope, body) = split(request_bytes(&request)).expect("an envelope");
            prop_assert_eq!(envelope.kind, request.kind());
            prop_assert_eq!((envelope.from, envelope.shard), (STAMP.from, STAMP.shard));
            prop_assert_eq!(decode_request(&envelope, body), Ok(request));
            Ok(())
        })
        .expect("round trips");
}

#[test]
fn replies_come_back_as_they_went() {
    runner()
        .run(&reply(), |reply| {
            let (envelope, body) = split(reply_bytes(&reply)).expect("an envelope");
            prop_assert_eq!(decode_reply(&envelope, reply.kind(), body), Ok(reply));
            Ok(())
        })
        .expect("round trips");
}

/// A body under an envelope that fits it, checksum and all: what only a hostile peer can send.
fn forged(kind: Kind, is_reply: bool, head: &[u8], payload: &[u8]) -> (Envelope, Bytes) {
    let body = [head, payload].concat();
    let envelope = Envelope {
        kind,
        is_reply,
        features: 0,
        cluster: STAMP.cluster,
        from: STAMP.from,
        to: STAMP.to,
        request_id: 0,
        shard: STAMP.shard,
        head_len: head.len() as u32,
        payload_len: payload.len() as u32,
        body_crc: crc32fast::hash(&body),
    };
    (envelope, Bytes::from(body))
}

#[test]
fn arbitrary_bytes_never_panic() {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    let kind = prop::sample::select(Kind::ALL);
    runner()
        .run(&(kind, any::<bool>(), bytes(), bytes()), |(kind, is_reply, head, payload)| {
            let (envelope, body) = forged(kind, is_reply, &head, &payload);
            let _ = decode_request(&envelope, body.clone());
            let _ = decode_reply(&envelope, kind, body);
            let _ = Envelope::decode(&head);
            Ok(())
        })
        .expect("no panic");
}

/// Each bit of a head flipped, with checksums made to fit: an error or another message, no panic,
/// and whatever reads is written again as the same bytes: no two encodings of one message.
#[test]
fn what_reads_at_all_is_written_the_same() {
    for (name, request) in sample_requests() {
        let (envelope, body) = split(request_bytes(&request)).expect("an envelope");
        let head_len = envelope.head_len as usize;
        for bit in 0..head_len * 8 {
            let mut head = body[..head_len].to_vec();
            head[bit / 8] ^= 1 << (bit % 8);
            let (envelope, body) = forged(envelope.kind, false, &head, &body[head_len..]);
            if let Ok(other) = decode_request(&envelope, body.clone()) {
                let again = request_bytes(&other);
                assert_eq!(again.slice(envelope::BYTES..), body, "{name}, bit {bit}");
            }
        }
    }
}

#[test]
fn every_cut_and_every_byte_too_many_is_noticed() {
    for (name, request) in sample_requests() {
        let (envelope, body) = split(request_bytes(&request)).expect("an envelope");
        let (head, payload) = body.split_at(envelope.head_len as usize);
        for len in 0..head.len() {
            let (cut, body) = forged(envelope.kind, false, &head[..len], payload);
            assert!(decode_request(&cut, body).is_err(), "{name} cut to {len}");
        }
        let longer = [head, &[0]].concat();
        let (long, body) = forged(envelope.kind, false, &longer, payload);
        assert!(decode_request(&long, body).is_err(), "{name} and a byte");
        let longer = [payload, &[0]].concat();
        let (long, body) = forged(envelope.kind, false, head, &longer);
        assert!(decode_request(&long, body).is_err(), "{name} and a byte of payload");
    }
}

/// A list that claims more than follows: nothing is set aside for what does not come.
#[test]
fn claimed_lengths_are_not_believed() {
    for claimed in [65, 1000, LIST_LEN_MAX as u64, LIST_LEN_MAX as u64 + 1, 1 << 40, u64::MAX] {
        let head = [&[0; 16][..], &claimed.to_le_bytes()].concat();
        let (envelope, body) = forged(Kind::Heartbeat, false, &head, b"");
        assert!(decode_request(&envelope, body).is_err(), "{claimed} groups");
        let text = [&[0; 4][..], &claimed.to_le_bytes(), b"short"].concat();
        let (envelope, body) = forged(Kind::Refused, true, &text, b"");
        assert!(decode_reply(&envelope, Kind::Vote, body).is_err(), "{claimed} bytes of text");
    }
}

#[test]
fn what_is_too_long_is_refused_by_the_sender() {
    let chunk = |len| SnapshotChunk {
        id: SnapshotId::default(),
        vote: Vote::default(),
        chunk: 0,
        records: 1,
        payload: Bytes::from(vec![0; len]),
    };
    let most = Request::SnapshotChunk(chunk(PAYLOAD_BYTES_MAX));
    assert!(encode_request(&STAMP, &most).is_ok());
    let over = Request::SnapshotChunk(chunk(PAYLOAD_BYTES_MAX + 1));
    let error = encode_request(&STAMP, &over).expect_err("one byte too many");
    assert!(matches!(error, WireError::TooLong { part: "payload", .. }), "{error}");
    let member = Member { node: NodeId(1), address: "a".repeat(TEXT_BYTES_MAX + 1) };
    let join = Request::Join(Join { member, capacity_bytes: 0, zone: String::new(), kept: false });
    assert!(encode_request(&STAMP, &join).is_err());
}

#[test]
fn a_reply_must_be_one_to_what_was_asked() {
    let reply = Reply::Append(AppendReply::Success);
    let (envelope, body) = split(reply_bytes(&reply)).expect("an envelope");
    assert!(decode_reply(&envelope, Kind::Append, body.clone()).is_ok());
    let wrong = decode_reply(&envelope, Kind::Vote, body.clone());
    assert_eq!(wrong, Err(WireError::Unexpected { kind: Kind::Append, is_reply: true }));
    assert!(decode_request(&envelope, body).is_err());
}

#[test]
fn long_payload_is_sent_as_it_lies() {
    let big = Bytes::from(vec![7; COPY_BYTES_BELOW]);
    let small = Bytes::from_static(b"small");
    let entry = |payload: &Bytes| Entry {
        id: LogId::default(),
        kind: EntryKind::Operations,
        payload: payload.clone(),
    };
    let entries = vec![entry(&small), entry(&big), entry(&small), entry(&small)];
    let append = AppendEntries { vote: Vote::default(), prev: None, commit: None, entries };
    let pieces = encode_request(&STAMP, &Request::Append(append)).expect("fits");
    assert_eq!(pieces.len(), 3);
    assert_eq!(pieces[1].as_ptr(), big.as_ptr(), "not copied");
    assert_eq!(&pieces[2][..], b"smallsmall");
}

fn id(index: u64) -> Option<LogId> {
    Some(LogId { term: Term(5), index: LogIndex(index) })
}

const VOTE: Vote = Vote { term: Term(5), node: Some(NodeId(1)), committed: true };

fn sample_member() -> Member {
    Member { node: NodeId(2), address: "b:16379".to_owned() }
}

fn sample_hello() -> Hello {
    Hello {
        node: NodeId(1),
        cluster: ClusterId([0xc1; 16]),
        versions: (1, 2),
        features: 3,
        boot_id: [0xb0; 16],
        class: 1,
        address: "a:16379".to_owned(),
    }
}

fn sample_introduce() -> Introduce {
    Introduce {
        member: sample_member(),
        expect: 3,
        shards: 16,
        cluster: ClusterId::NONE,
        met: vec![sample_member()],
    }
}

fn sample_entry(index: u64, payload: &'static [u8]) -> Entry {
    let id = LogId { term: Term(5), index: LogIndex(index) };
    Entry { id, kind: EntryKind::Operations, payload: Bytes::from_static(payload) }
}

/// One of each request, every field set.
fn sample_requests() -> Vec<(&'static str, Request)> {
    let snapshot = SnapshotId([0x5a; 16]);
    let vote = VoteRequest { vote: VOTE, last: id(9), leadership_transfer: true };
    let beat = Beat { shard: ShardId(4), vote: VOTE, prev: id(8), commit: None };
    let members = vec![sample_member()];
    vec![
        ("hello", Request::Hello(sample_hello())),
        ("introduce", Request::Introduce(sample_introduce())),
        ("found", Request::Found(Found { cluster: ClusterId([0xc1; 16]), shards: 16, members })),
        (
            "join",
            Request::Join(Join {
                member: sample_member(),
                capacity_bytes: 1 << 30,
                zone: "z".to_owned(),
                kept: true,
            }),
        ),
        ("heartbeat", Request::Heartbeat(Heartbeat { sequence: 6, now_ms: 7, groups: vec![beat] })),
        (
            "append",
            Request::Append(AppendEntries {
                vote: VOTE,
                prev: id(8),
                commit: id(7),
                entries: vec![sample_entry(9, b"one"), sample_entry(10, b"two")],
            }),
        ),
        ("vote", Request::Vote(vote)),
        ("pre-vote", Request::PreVote(vote)),
        (
            "transfer-leader",
            Request::TransferLeader(TransferLeader { from: VOTE, to: NodeId(2), last: id(9) }),
        ),
        (
            "snapshot-begin",
            Request::SnapshotBegin(SnapshotBegin {
                id: snapshot,
                vote: VOTE,
                last: id(9),
                membership_at: id(1),
                reserve_bytes: 1 << 21,
                head: Bytes::from_static(b"members"),
            }),
        ),
        (
            "snapshot-chunk",
            Request::SnapshotChunk(SnapshotChunk {
                id: snapshot,
                vote: VOTE,
                chunk: 11,
                records: 2,
                payload: Bytes::from_static(b"records"),
            }),
        ),
        (
            "snapshot-end",
            Request::SnapshotEnd(SnapshotEnd { id: snapshot, vote: VOTE, chunks: 12 }),
        ),
        (
            "forward",
            Request::Forward(Forward {
                kind: ForwardKind::Read,
                session: 13,
                sequence: 14,
                resp: 3,
                flags: 1,
                count: 1,
                payload: Bytes::from_static(b"commands"),
            }),
        ),
        ("read-index", Request::ReadIndex(ReadIndexRequest)),
    ]
}

/// Each reply in each of its forms.
fn sample_replies() -> Vec<(&'static str, Reply)> {
    let progress = SnapshotProgress { vote: VOTE, next_chunk: 11, installed: true };
    let vote = VoteReply { vote: VOTE, granted: true, last: None };
    let cluster = ClusterId([0xc1; 16]);
    let answer = BeatAnswer { shard: ShardId(4), outcome: Some(AppendReply::Conflict) };
    let (expected, actual) = (VOTE, Vote::default());
    let leader = Some(NodeId(2));
    let payload = Bytes::from_static(b"+OK\r\n");
    vec![
        ("hello", Reply::Hello(sample_hello())),
        ("introduce", Reply::Introduce(sample_introduce())),
        ("found", Reply::Found(Founded { cluster })),
        (
            "join-accepted",
            Reply::Join(Joined::Accepted { cluster, members: vec![sample_member()] }),
        ),
        ("join-lost", Reply::Join(Joined::Lost)),
        ("join-elsewhere", Reply::Join(Joined::Elsewhere { leader: Some(sample_member()) })),
        (
            "heartbeat",
            Reply::Heartbeat(HeartbeatReply { sequence: 6, now_ms: 7, groups: vec![answer] }),
        ),
        ("append-success", Reply::Append(AppendReply::Success)),
        ("append-partial", Reply::Append(AppendReply::Partial(id(9)))),
        ("append-conflict", Reply::Append(AppendReply::Conflict)),
        ("append-higher-vote", Reply::Append(AppendReply::HigherVote(VOTE))),
        ("vote", Reply::Vote(vote)),
        ("pre-vote", Reply::PreVote(vote)),
        ("transfer-accepted", Reply::TransferLeader(TransferReply::Accepted)),
        (
            "transfer-vote-changed",
            Reply::TransferLeader(TransferReply::VoteChanged { expected, actual }),
        ),
        (
            "transfer-log-not-flushed",
            Reply::TransferLeader(TransferReply::LogNotFlushed { expected: id(9), actual: None }),
        ),
        ("snapshot-begin", Reply::SnapshotBegin(progress)),
        ("snapshot-chunk", Reply::SnapshotChunk(progress)),
        ("snapshot-end", Reply::SnapshotEnd(progress)),
        ("forward-done", Reply::Forward(Forwarded::Done { count: 1, flags: 0, payload })),
        ("forward-not-leader", Reply::Forward(Forwarded::NotLeader { leader })),
        ("read-index-at", Reply::ReadIndex(ReadIndex::At(id(9)))),
        ("read-index-not-leader", Reply::ReadIndex(ReadIndex::NotLeader { leader })),
        (
            "refused",
            Reply::Refused(Refused { code: RefusedCode::Busy, text: "too much".to_owned() }),
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of every message, as version 1 of the wire has them. When this goes red the wire has
/// changed: nodes of both builds would misread each other. Either undo it or raise the version.
#[test]
fn the_bytes_of_every_message_are_those_of_version_1() {
    let mut lines = String::new();
    for (name, request) in sample_requests() {
        let _ = writeln!(lines, "request {name} {}", hex(&request_bytes(&request)));
    }
    for (name, reply) in sample_replies() {
        let _ = writeln!(lines, "reply {name} {}", hex(&reply_bytes(&reply)));
    }
    let pinned = include_str!("../../../tests/fixtures/wire_v1.txt");
    for (now, then) in lines.lines().zip(pinned.lines()) {
        assert_eq!(now, then);
    }
    assert_eq!(lines.lines().count(), pinned.lines().count(), "{lines}");
}

#[test]
fn every_kind_has_a_sample() {
    let requests: Vec<Kind> = sample_requests().iter().map(|(_, r)| r.kind()).collect();
    let replies: Vec<Kind> = sample_replies().iter().map(|(_, r)| r.kind()).collect();
    for kind in Kind::ALL {
        assert!(requests.contains(kind) || *kind == Kind::Refused, "{kind:?}");
        assert!(replies.contains(kind), "{kind:?}");
    }
}
