//! Random histories of lists against vectors, small and large, with commits, crashes and
//! recoveries among the operations.

use std::collections::BTreeMap;

use crate::harness::{Replica, Rng, content, seeds};

const START_MS: u64 = 1_700_000_000_000;
/// Around the steps from packed to chunks, to blobs of their own, and to chunks of those.
const LENGTHS: [u64; 8] = [0, 1, 8, 60, 253, 999, 1020, 16_368];

type Lists = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

fn key(rng: &mut Rng) -> Vec<u8> {
    format!("list:{}", rng.below(4)).into_bytes()
}

fn element(rng: &mut Rng) -> Vec<u8> {
    if rng.one_in(2) {
        return rng.below(50).to_string().into_bytes();
    }
    let spread = if rng.one_in(8) { LENGTHS.len() } else { 4 };
    let (len, first) = (LENGTHS[rng.below(spread as u64) as usize] + rng.below(3), rng.next());
    (0..len).map(|n| first.wrapping_add(n) as u8).collect()
}

fn int(n: impl TryInto<i64>) -> Vec<u8> {
    format!(":{}\r\n", n.try_into().unwrap_or(i64::MAX)).into_bytes()
}

fn array(elements: &[Vec<u8>]) -> Vec<u8> {
    let mut reply = format!("*{}\r\n", elements.len()).into_bytes();
    elements.iter().for_each(|element| reply.extend(bulk(element)));
    reply
}

fn bulk(element: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", element.len()).as_bytes(), element, b"\r\n"].concat()
}

/// One operation on both.
fn step(replica: &mut Replica, lists: &mut Lists, rng: &mut Rng) {
    let name = key(rng);
    let list = lists.entry(name.clone()).or_default();
    let len = list.len() as u64;
    let (place, more) = (rng.below(len + 1), rng.below(12));
    let index = (place as i64 - if rng.one_in(2) { len as i64 } else { 0 }).to_string();
    let index = index.into_bytes();
    let word = |text: &str| text.as_bytes().to_vec();
    let (argv, wanted) = match rng.below(12) {
        0..=3 => {
            let front = rng.one_in(2);
            let mut argv = vec![word(if front { "LPUSH" } else { "RPUSH" }), name];
            for _ in 0..=more * more {
                let element = element(rng);
                list.insert(if front { 0 } else { list.len() }, element.clone());
                argv.push(element);
            }
            (argv, int(list.len()))
        }
        4 if len > 0 => {
            let element = element(rng);
            let pivot = list[place.min(len - 1) as usize].clone();
            let at = list.iter().position(|element| *element == pivot).unwrap();
            list.insert(at, element.clone());
            (vec![word("LINSERT"), name, word("BEFORE"), pivot, element], int(list.len()))
        }
        5 if place < len => {
            let element = element(rng);
            list[place as usize] = element.clone();
            (vec![word("LSET"), name, index, element], word("+OK\r\n"))
        }
        6 | 7 if len > 0 => {
            let (front, count) = (rng.one_in(2), more.min(len) as usize);
            let popped: Vec<Vec<u8>> = match front {
                true => list.drain(..count).collect(),
                false => list.drain(list.len() - count..).rev().collect(),
            };
            let argv = vec![word(if front { "LPOP" } else { "RPOP" }), name];
            ([argv, vec![more.to_string().into_bytes()]].concat(), array(&popped))
        }
        8 => {
            let element = element(rng);
            list.retain(|kept| *kept != element);
            let removed = len - list.len() as u64;
            (vec![word("LREM"), name, word("0"), element], int(removed))
        }
        9 if rng.one_in(4) => {
            let end = (place + rng.below(len + 1)).min(len);
            let (start, stop) = (place.to_string(), (end as i64 - 1).to_string());
            // A stop of -1 would be the last element.
            if end == 0 {
                return;
            }
            *list = list[place as usize..end as usize].to_vec();
            (vec![word("LTRIM"), name, start.into_bytes(), stop.into_bytes()], word("+OK\r\n"))
        }
        10 if len > 0 => {
            let element = list.pop().unwrap();
            let to = key(rng);
            lists.entry(to.clone()).or_default().insert(0, element.clone());
            (vec![word("RPOPLPUSH"), name, to], bulk(&element))
        }
        _ => {
            let elements = &list[place as usize..(place + more).min(len) as usize];
            let stop = (place + more) as i64 - 1;
            // As above.
            let wanted = if stop < 0 { list } else { elements };
            let range = [place.to_string(), stop.to_string()].map(String::into_bytes);
            ([vec![word("LRANGE"), name], range.to_vec()].concat(), array(wanted))
        }
    };
    let got = replica.run(&argv);
    assert!(got == wanted, "{}", argv[0].escape_ascii());
    lists.retain(|_, list| !list.is_empty());
}

fn compare(replica: &mut Replica, lists: &Lists) {
    for (name, list) in lists {
        let argv = [&b"LRANGE"[..], name, b"0", b"-1"].map(<[u8]>::to_vec);
        assert!(replica.run(&argv) == array(list), "{}", name.escape_ascii());
        let argv = [&b"LLEN"[..], name].map(<[u8]>::to_vec);
        assert_eq!(replica.run(&argv), int(list.len()));
    }
    assert_eq!(content(replica.engine.store()).len(), lists.len());
}

#[test]
fn lists_agree_with_vectors_and_survive_crashes() {
    for seed in seeds(60) {
        println!("seed {seed}: replay with CAIRN_SEED={seed}");
        let mut rng = Rng(seed);
        let (mut replica, mut lists) = (Replica::new(START_MS), Lists::new());
        for _ in 0..rng.below(400) {
            match rng.below(40) {
                0 => replica.commit(),
                1 => replica.crash_and_recover(),
                2 => {
                    let (from, to) = (key(&mut rng), key(&mut rng));
                    let argv = [&b"COPY"[..], &from, &to, b"REPLACE"].map(<[u8]>::to_vec);
                    replica.run(&argv);
                    if let Some(list) = lists.get(&from).cloned() {
                        lists.insert(to, list);
                    }
                }
                _ => step(&mut replica, &mut lists, &mut rng),
            }
        }
        compare(&mut replica, &lists);
        replica.crash_and_recover();
        compare(&mut replica, &lists);
    }
}
