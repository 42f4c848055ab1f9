//! Adding at the ends.

use cairn_protocol::resp::{Argv, Writer};

use crate::data::list::{End, ListEdit};
use crate::failure::Outcome;
use crate::keyspace::{WriteContext, cost_of};

/// LPUSH key element [element ...]
pub(crate) fn lpush(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    push(cx, argv, End::Left, w)
}

/// RPUSH key element [element ...]
pub(crate) fn rpush(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    push(cx, argv, End::Right, w)
}

/// LPUSHX key element [element ...]
pub(crate) fn lpushx(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    push_if_there(cx, argv, End::Left, w)
}

/// RPUSHX key element [element ...]
pub(crate) fn rpushx(cx: &mut WriteContext<'_>, argv: Argv<'_>, w: &mut Writer<'_>) -> Outcome {
    push_if_there(cx, argv, End::Right, w)
}

fn push_if_there(
    cx: &mut WriteContext<'_>,
    argv: Argv<'_>,
    end: End,
    w: &mut Writer<'_>,
) -> Outcome {
    if cx.exists(&cx.key(&argv[1]))? {
        return push(cx, argv, end, w);
    }
    w.int(0);
    Ok(())
}

fn push(cx: &mut WriteContext<'_>, argv: Argv<'_>, end: End, w: &mut Writer<'_>) -> Outcome {
    let elements = || argv.iter().skip(2);
    let (limit, count) = (cx.limits.list(), elements().len() as u64);
    let bytes: u64 = elements().map(|element| element.len() as u64).sum();
    let len =
        cx.change_list(&cx.key(&argv[1]), cost_of(elements()), |list: &mut ListEdit<'_, '_>| {
            list.will_grow(limit, count, bytes)?;
            for element in elements() {
                list.push(end, element)?;
            }
            Ok(list.len())
        })?;
    w.int(len as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::test::Bench;

    #[test]
    fn elements_are_pushed_one_after_another() {
        let mut bench = Bench::new();
        let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        bench.check(&[
            ("RPUSH l a b", ":2"),
            ("LPUSH l c d", ":4"),
            ("LRANGE l 0 -1", "*4|$1|d|$1|c|$1|a|$1|b"),
            ("LPUSHX l e", ":5"),
            ("RPUSHX l f g", ":7"),
            ("LPUSHX x e", ":0"),
            ("RPUSHX x e", ":0"),
            ("EXISTS x", ":0"),
            ("LPUSH x a b", ":2"),
            ("LRANGE x 0 -1", "*2|$1|b|$1|a"),
            ("SET s v", "+OK"),
            ("LPUSH s a", wrong_type),
            ("RPUSH s a", wrong_type),
            ("LPUSHX s a", wrong_type),
            ("RPUSHX s a", wrong_type),
            ("EXPIRE l 10", ":1"),
            ("RPUSH l h", ":8"),
            ("TTL l", ":10"),
        ]);
    }

    #[test]
    fn a_large_list_answers_as_a_small_one() {
        let mut bench = Bench::new();
        for n in 0..3000 {
            let element = format!("element:{n}");
            let reply = bench.run(&[b"RPUSH", b"l", element.as_bytes()]);
            assert_eq!(reply, format!(":{}\r\n", n + 1).as_bytes());
        }
        bench.check(&[
            ("LLEN l", ":3000"),
            ("LINDEX l 7", "$9|element:7"),
            ("LINDEX l -1", "$12|element:2999"),
            ("LINDEX l 3000", "$-1"),
            ("LSET l 7 other", "+OK"),
            ("LINDEX l 7", "$5|other"),
            ("LINSERT l BEFORE element:9 new", ":3001"),
            ("LRANGE l 6 10", "*5|$9|element:6|$5|other|$9|element:8|$3|new|$9|element:9"),
            ("LPOS l element:2999", ":3000"),
            ("LREM l 0 new", ":1"),
            ("COPY l copy", ":1"),
            ("LTRIM l 10 19", "+OK"),
            ("LLEN l", ":10"),
            ("LINDEX l 0", "$10|element:10"),
            ("LLEN copy", ":3000"),
            ("RENAME copy moved", "+OK"),
            ("LPOP moved", "$9|element:0"),
            ("RPOP moved", "$12|element:2999"),
            ("LMOVE moved l RIGHT LEFT", "$12|element:2998"),
            ("LTRIM moved 1 0", "+OK"),
            ("EXISTS moved", ":0"),
            ("LLEN l", ":11"),
        ]);
    }

    #[test]
    fn elements_may_be_long() {
        let mut bench = Bench::new();
        for len in [1000, 1001, 5000, 16_400, 100_000] {
            let long = vec![b'v'; len];
            bench.run(&[b"RPUSH", b"l", &long, b"short"]);
            let reply = bench.run(&[b"LINDEX", b"l", b"-2"]);
            assert_eq!(reply, [format!("${len}\r\n").as_bytes(), &long, b"\r\n"].concat());
            assert_eq!(bench.run(&[b"LREM", b"l", b"0", &long]), b":1\r\n");
        }
        bench.check(&[("LLEN l", ":5"), ("DEL l", ":1")]);
    }

    #[test]
    fn encodings_are_those_of_redis() {
        let mut bench = Bench::new();
        // 12 bytes each in a listpack of 7: 681 of them make 8179 bytes.
        for n in 0..681 {
            bench.run(&[b"RPUSH", b"l", format!("element{n:03}").as_bytes()]);
        }
        bench.check(&[
            ("OBJECT ENCODING l", "$8|listpack"),
            ("RPUSH l 12345678901234", ":682"),
            ("OBJECT ENCODING l", "$9|quicklist"),
            ("RPOP l", "$14|12345678901234"),
            ("OBJECT ENCODING l", "$9|quicklist"),
            // 340 elements make 4087 bytes.
            ("LTRIM l 0 340", "+OK"),
            ("OBJECT ENCODING l", "$9|quicklist"),
            ("LPOP l", "$10|element000"),
            ("OBJECT ENCODING l", "$8|listpack"),
        ]);
        let long = [b'x'; 8186];
        bench.run(&[b"RPUSH", b"one", &long[..8185]]);
        bench.run(&[b"RPUSH", b"two", &long]);
        bench.check(&[
            ("OBJECT ENCODING one", "$8|listpack"),
            ("OBJECT ENCODING two", "$9|quicklist"),
            ("LSET two 0 short", "+OK"),
            ("OBJECT ENCODING two", "$8|listpack"),
            ("LINSERT one BEFORE x a", ":-1"),
        ]);
    }

    #[test]
    fn a_change_is_noted_and_only_a_change() {
        let mut bench = Bench::new();
        let elements: Vec<String> = (0..400).map(|n| format!("element:{n}")).collect();
        for key in ["small", "large"] {
            let many = if key == "large" { &elements[..] } else { &elements[..4] };
            let rows = [
                (format!("RPUSHX {key} x"), 0),
                (format!("RPUSH {key} {}", many.join(" ")), 1),
                (format!("LINSERT {key} BEFORE nosuch x"), 0),
                (format!("LINSERT {key} AFTER element:0 x"), 1),
                (format!("LSET {key} 1 y"), 1),
                (format!("LSET {key} 1000 y"), 0),
                (format!("LREM {key} 0 x"), 0),
                (format!("LREM {key} 0 y"), 1),
                (format!("LTRIM {key} 0 -1"), 0),
                (format!("LTRIM {key} 1 -1"), 1),
                (format!("LPOP {key} 0"), 0),
                (format!("LPOP {key}"), 1),
                ("RPOP nosuch".to_owned(), 0),
                (format!("LMOVE {key} {key}2 LEFT LEFT"), 2),
                (format!("LMOVE {key}2 {key}2 LEFT RIGHT"), 1),
                (format!("LMPOP 2 nosuch {key}2 LEFT"), 1),
                (format!("LMPOP 2 nosuch {key}2 LEFT"), 0),
                (format!("LTRIM {key} 1 0"), 1),
                (format!("LTRIM {key} 1 0"), 0),
            ];
            for (command, wanted) in rows {
                let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
                bench.run(&words);
                assert_eq!(bench.effects.changed, wanted, "{command:.40}");
            }
        }
    }

    #[test]
    fn a_full_store_adds_nothing_and_removes() {
        let mut bench = Bench::full_at(256 * 1024);
        let value = vec![b'x'; 900];
        let refused = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n";
        let mut len = 0;
        let reply = loop {
            let reply = bench.run(&[b"RPUSH", b"l", &value]);
            if reply != format!(":{}\r\n", len + 1).as_bytes() {
                break reply;
            }
            len += 1;
        };
        assert_eq!(reply, refused);
        assert!((150..300).contains(&len), "{len}");
        bench.check(&[("LLEN l", &format!(":{len}")), ("LTRIM l 5 10", "+OK"), ("LLEN l", ":6")]);
        bench.check(&[("LTRIM l 1 0", "+OK"), ("EXISTS l", ":0"), ("RPUSH l a", ":1")]);
    }
}
