//! Damage in the pool is told, never served, and never applied over.

use cairn_engine::At;
use cairn_protocol::command::CommandId;
use cairn_protocol::op::{OpRef, encode_op};
use cairn_protocol::resp::{Argv, Writer};

use crate::harness::Replica;

fn words(text: &str) -> Vec<Vec<u8>> {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// A replica one of whose keys, `damaged`, no longer is what was written.
fn damaged() -> Replica {
    let mut replica = Replica::new(1_700_000_000_000);
    replica.run(&words("MSET damaged value sound value"));
    replica.restart_damaged(|bytes| {
        let name = b"damagedvalue";
        let at = bytes.windows(name.len()).rposition(|window| window == name).unwrap();
        // The block's kind lies in its header, 16 bytes ahead of a short key without a deadline.
        bytes[at - 16 + 6] = 0;
    });
    replica
}

#[test]
fn a_read_names_the_place_and_the_remedy_and_other_keys_stay_readable() {
    let mut replica = damaged();
    for command in ["GET damaged", "MGET sound damaged", "STRLEN damaged", "KEYS *"] {
        let reply = String::from_utf8(replica.run(&words(command))).unwrap();
        assert!(reply.starts_with("-CORRUPT ") && reply.ends_with("\r\n"), "{command}: {reply}");
        assert!(reply.contains("at byte ") && reply.contains("cairn check"), "{command}: {reply}");
        assert_eq!(reply.lines().count(), 1, "{command}: {reply}");
    }
    assert_eq!(replica.run(&words("GET sound")), b"$5\r\nvalue\r\n");
}

#[test]
fn a_write_that_meets_damage_stops_the_replica() {
    let mut replica = damaged();
    let at = At { now_ms: replica.now_ms, seed: 0 };
    for (command, id) in [("APPEND damaged x", CommandId::Append), ("DEL damaged", CommandId::Del)]
    {
        let (mut op, argv) = (Vec::new(), words(command));
        let argv: Vec<&[u8]> = argv.iter().map(Vec::as_slice).collect();
        encode_op(&mut op, id, 0, Argv::from(&argv[..]));
        let op = OpRef::decode(&op).unwrap();
        let fatal = replica.engine.apply(&op, &at, &mut Writer::suppressed()).unwrap_err();
        let text = fatal.to_string();
        assert!(text.starts_with(&format!("cannot execute '{}': ", id.spec().name)), "{text}");
        assert!(text.contains("at byte "), "{text}");
    }
}

/// A replica with a hash and a set in whose packed form a length is wrong.
fn damaged_collections() -> Replica {
    let mut replica = Replica::new(1_700_000_000_000);
    replica.run(&words("HSET hash field value other value"));
    replica.run(&words("SADD set member other"));
    replica.restart_damaged(|bytes| {
        for (value, length) in
            [(&b"\x05field\x05value\x05other"[..], 12), (b"\x06member\x05other", 7)]
        {
            let at = bytes.windows(value.len()).rposition(|window| window == value).unwrap();
            bytes[at + length] = 200;
        }
    });
    // As if the pool had been found whole before: the checksum is not asked, the form is.
    replica.engine.store().trust_below(None);
    replica
}

#[test]
fn a_packed_collection_that_does_not_add_up_is_told() {
    let mut replica = damaged_collections();
    for command in [
        "HGETALL hash",
        "HGET hash other",
        "HSCAN hash 0",
        "HRANDFIELD hash -20",
        "SMEMBERS set",
        "SISMEMBER set other",
        "SUNION set nosuch",
        "SORT_RO set",
    ] {
        let reply = String::from_utf8(replica.run(&words(command))).unwrap();
        assert!(reply.starts_with("-CORRUPT a packed collection"), "{command}: {reply}");
        assert!(reply.contains("at byte ") && reply.contains("cairn check"), "{command}: {reply}");
    }
    let at = At { now_ms: replica.now_ms, seed: 0 };
    for (command, id) in [
        ("HSET hash new value", CommandId::HSet),
        ("HDEL hash other", CommandId::HDel),
        ("SADD set new", CommandId::SAdd),
        ("SPOP set 2", CommandId::SPop),
        ("SUNIONSTORE to set", CommandId::SUnionStore),
    ] {
        let (mut op, argv) = (Vec::new(), words(command));
        let argv: Vec<&[u8]> = argv.iter().map(Vec::as_slice).collect();
        encode_op(&mut op, id, 0, Argv::from(&argv[..]));
        let op = OpRef::decode(&op).unwrap();
        let fatal = replica.engine.apply(&op, &at, &mut Writer::suppressed()).unwrap_err();
        assert!(fatal.to_string().contains("a packed collection"), "{fatal}");
    }
}
