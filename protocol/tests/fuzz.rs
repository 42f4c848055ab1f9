//! A short run of the fuzz bodies from a seed. `CAIRN_SEED` repeats one, `CAIRN_ROUNDS` makes it
//! longer; `tests/fuzz` runs the same bodies under a coverage-guided fuzzer.

use std::hash::{BuildHasher, Hasher, RandomState};

use cairn_protocol::fuzzing::{self, Rng};
use cairn_protocol::number::{parse_f64, push_f64};
use cairn_protocol::op::{EntryRef, OpError};
use cairn_protocol::resp::{Limits, Proto, ValueDecoder, Writer};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs `body` with generators of rising seeds; a failure is preceded by the seed that repeats it.
fn rounds(count: u64, mut body: impl FnMut(&mut Rng)) {
    let (first, count) = match number("CAIRN_SEED") {
        Some(seed) => (seed, number("CAIRN_ROUNDS").unwrap_or(1)),
        None => {
            (RandomState::new().build_hasher().finish(), number("CAIRN_ROUNDS").unwrap_or(count))
        }
    };
    for seed in (0..count).map(|i| first.wrapping_add(i)) {
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&mut Rng(seed))));
        if let Err(panic) = outcome {
            eprintln!("to repeat: CAIRN_SEED={seed} cargo test -p cairn-protocol --test fuzz");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Sound input, then damaged: `body` gets two bytes of control before it.
fn sound_and_damaged(rng: &mut Rng, sample: Vec<u8>, body: fn(&[u8])) {
    let mut data = vec![rng.next_u64() as u8, rng.next_u64() as u8];
    data.extend(sample);
    body(&data);
    let mut tail = data.split_off(2);
    rng.damage(&mut tail);
    data.extend(tail);
    body(&data);
}

#[test]
fn requests_decode_alike_however_they_arrive() {
    rounds(40_000, |rng| {
        let sample = fuzzing::sample_requests(rng);
        sound_and_damaged(rng, sample, fuzzing::requests);
        fuzzing::requests(&rng.bytes(60));
    });
}

#[test]
fn values_decode_alike_however_they_arrive() {
    rounds(40_000, |rng| {
        let mut sample = Vec::new();
        for _ in 0..=rng.below(3) {
            fuzzing::sample_value(rng, 4).encode(&mut Writer::new(&mut sample, Proto::Resp3));
        }
        sound_and_damaged(rng, sample, fuzzing::values);
        fuzzing::values(&rng.bytes(60));
    });
}

#[test]
fn values_come_back_as_they_went() {
    rounds(40_000, |rng| {
        let value = fuzzing::sample_value(rng, 4);
        let mut bytes = Vec::new();
        value.encode(&mut Writer::new(&mut bytes, Proto::Resp3));
        let decoded = ValueDecoder::new(Limits::default()).decode(&bytes).unwrap();
        assert_eq!(decoded, (bytes.len(), Some(value)));
    });
}

#[test]
fn doubles_come_back_as_they_went() {
    rounds(200_000, |rng| {
        let value = fuzzing::sample_double(rng);
        let mut text = Vec::new();
        push_f64(&mut text, value);
        let back = parse_f64(&text).map(f64::to_bits);
        // A subnormal is no number to strtod's callers only when it rounds to zero: never here.
        assert_eq!(back, Some(value.to_bits()), "{value:e} as {}", text.escape_ascii());
    });
}

#[test]
fn entries_come_back_or_are_refused() {
    rounds(40_000, |rng| {
        let mut bytes = fuzzing::sample_entry(rng);
        let ops = EntryRef::decode(&bytes).unwrap();
        assert_eq!(ops.ops().filter(Result::is_ok).count(), ops.header().count as usize);
        fuzzing::entries(&bytes);
        rng.damage(&mut bytes);
        fuzzing::entries(&bytes);
        fuzzing::entries(&rng.bytes(200));
    });
}

#[test]
fn claimed_counts_are_not_believed() {
    let mut bytes = vec![1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    bytes.extend([0; 24]);
    let mut ops = EntryRef::decode(&bytes).unwrap().ops();
    assert!(matches!(ops.next(), Some(Err(OpError::Damaged { .. }))));
    assert!(ops.next().is_none());
}

#[test]
fn inline_lines_and_patterns_hold_what_they_promise() {
    rounds(100_000, |rng| {
        fuzzing::inline(&rng.bytes(40));
        fuzzing::globs(&rng.bytes(24));
    });
}
