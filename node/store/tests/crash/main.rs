//! A crash at every moment of short histories, and at many of large ones.
//!
//! A history runs once on a medium that records what is stored, flushed and fenced. From the record
//! come the images that a crash at each flush and each fence may leave; each must open as the last
//! committed epoch or the one being committed, pass a deep check, and be fit to go on with. With
//! the flushes or the fences of any one line of code taken out, some image must not.
//!
//! `CAIRN_SEEDS=N` looks at N times as many images, and at N large histories.

mod content;
mod judge;
mod large;
mod life;
mod scripts;

use cairn_store::media::{Granularity, Lost, Persist};
use judge::{Effort, Judge, Outcome, Seen};
use life::Story;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// So many times as many images as by default.
fn times() -> u64 {
    std::env::var("CAIRN_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1).max(1)
}

/// What is looked at of a story: of one with many moments, not each.
fn effort(story: &Story) -> Effort {
    let times = times();
    let many = if story.trace.events.len() > 600 { 30 } else { 1 };
    Effort {
        few: if times > 1 { 10 } else { 6 },
        each: 6 * times as usize,
        random: 2 * times,
        stride: (many / times).max(1),
    }
}

#[test]
fn every_crash_on_pages_leaves_one_epoch_or_the_other_and_each_fence_is_needed() {
    every_crash(Granularity::Page);
}

#[test]
fn every_crash_on_lines_leaves_one_epoch_or_the_other_and_each_flush_and_fence_is_needed() {
    every_crash(Granularity::CacheLine);
}

/// So many moments of a large history are drawn.
const DRAWN: u64 = 60;

#[test]
fn crashes_drawn_from_large_histories_leave_one_epoch_or_the_other() {
    let (mut moments, mut images) = (0, 0);
    for seed in 0..times() {
        let story = large::history(seed);
        for granularity in [Granularity::Page, Granularity::CacheLine] {
            let stride = (story.trace.events.len() as u64 / DRAWN).max(1);
            let effort = Effort { few: 3, each: 1, random: 4, stride };
            let seen = &mut Seen::new();
            let found = Judge::new(&story, granularity, None, effort).run(seen);
            let wrong = &found.wrong;
            assert!(wrong.is_empty(), "seed {seed}, {granularity:?}: {}", wrong[0]);
            moments += found.points;
            images += found.images;
        }
    }
    println!("{} large histories: {moments} persist points, {images} images drawn", times());
    assert!(images > 100 * times(), "{images} images");
}

/// Judges all stories as they are, then without what each line of code asks for.
fn every_crash(granularity: Granularity) {
    let stories = scripts::all();
    let mut seen: Vec<Seen> = Vec::new();
    for story in &stories {
        let mut good = Seen::new();
        let Outcome { points, images, wrong } =
            Judge::new(story, granularity, None, effort(story)).run(&mut good);
        println!("{granularity:?}, {}: {points} persist points, {images} images", story.name);
        assert!(wrong.is_empty(), "{} of {images}: {}", wrong.len(), wrong[0]);
        seen.push(good);
    }
    let met = sites(&stories);
    assert_eq!(not_met(&met), Vec::<String>::new(), "nothing here makes these persist");
    std::panic::set_hook(Box::new(|_| {}));
    let (mut missed, mut known) = (Vec::new(), Vec::new());
    for (name, lost) in met {
        if granularity == Granularity::Page && lost.0 == Persist::Flush {
            // A fence there makes durable what was never flushed.
            continue;
        }
        let listed = NOT_NEEDED.iter().any(|(not_needed, _)| *not_needed == name);
        if listed && times() == 1 {
            continue;
        }
        let caught = stories.iter().zip(&seen).find_map(|(story, good)| {
            let judge = Judge::new(story, granularity, Some(lost), effort(story));
            judge.run(&mut good.clone()).wrong.into_iter().next()
        });
        println!("{granularity:?}, without {name}: {}", caught.as_deref().unwrap_or("not missed"));
        match (caught, listed) {
            (None, false) => missed.push(name),
            (Some(why), true) => known.push((name, why)),
            _ => {}
        }
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "nothing misses these: {missed:#?}");
}

/// What may go without a crash being able to tell, and why it stays all the same.
const NOT_NEEDED: [(&str, &str); 3] = [
    (
        "Fence at pool/commit.rs `committer.write_superblock()?;` #2",
        "the fence of the next commit comes before a superblock is written over; but until then \
         damage to the first copy would lead back to a ceiling that is in use already",
    ),
    (
        "Flush at pool/mod.rs `first.put(mem, 0)?;` #1",
        "the first open writes over it; but until then damage to the other copy would cost the pool",
    ),
    (
        "Flush at pool/mod.rs `Superblock { sequence: 2, ..first }.put(mem, 1)?;` #1",
        "likewise: the other copy says the same",
    ),
];

/// The call sites of all stories, by name: what, the file, and its line as it stands there.
fn sites(stories: &[Story]) -> BTreeMap<String, Lost> {
    let all = stories.iter().flat_map(|story| story.trace.sites());
    all.map(|lost| (name_of(lost), lost)).collect()
}

fn name_of((kind, site): Lost) -> String {
    let source = source(Path::new(site.file()));
    let lines = source.lines().take(site.line() as usize).map(str::trim);
    let line = lines.clone().last().unwrap_or_default();
    let file = site.file().rsplit("src/").next().unwrap_or_default();
    // By its place among lines that read the same, which moves less often than its number.
    let same = lines.filter(|other| *other == line).count();
    format!("{kind:?} at {file} `{line}` #{same}")
}

fn source(file: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(file)).expect("the sources that were compiled")
}

/// Lines of the store that ask for a flush or a fence, and that no story has come to.
fn not_met(met: &BTreeMap<String, Lost>) -> Vec<String> {
    let at = |lost: &Lost| format!("{}:{}", lost.1.file(), lost.1.line());
    let met: HashSet<String> = met.values().map(at).collect();
    let mut asking = Vec::new();
    for room in ["alloc", "pool", "keyspace", "."] {
        let folder = Path::new("node/store/src").join(room);
        let there = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(&folder);
        for entry in std::fs::read_dir(there).expect("a folder of sources") {
            let file = folder.join(entry.expect("an entry").file_name());
            // These pass on who asks.
            if file.ends_with("persist.rs") || file.ends_with("superblock.rs") {
                continue;
            }
            if file.extension().is_some_and(|extension| extension == "rs") {
                asking.extend(asking_lines(&file));
            }
        }
    }
    asking.retain(|line| !met.contains(line));
    asking
}

fn asking_lines(file: &Path) -> Vec<String> {
    const ASKING: [&str; 5] =
        ["mem.flush(", "mem.fence()", ".write_superblock()", ".put(mem, ", "Superblock::keep("];
    let source = source(file);
    let lines = (1..).zip(source.lines());
    let asking = lines.filter(|(_, line)| ASKING.iter().any(|asking| line.contains(asking)));
    let name = file.display().to_string().replace("/./", "/");
    asking.map(|(number, _)| format!("{name}:{number}")).collect()
}
