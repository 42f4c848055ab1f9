//! Images of a running node's disk: what a loss of power would leave, taken while it writes.
//!
//! The node's directory lies on an ext4 in a file, and that file on an xfs that can share blocks
//! between files: a copy of it takes milliseconds and is the disk at one moment, with whatever the
//! kernel had not written yet missing. On each image ext4's journal is replayed and a node started,
//! which must hold everything that had been acknowledged when the copy was begun, and nothing that
//! had not been sent when it was whole; before and after, `cairn check --deep` must find it sound.
//!
//! `tests/rigs/blocks/run` takes 200 images; here it is a handful. Skipped, with the reason, where
//! nothing may be mounted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_tests::mount::{self, Mounted};
use cairn_tests::node::{Node, NodeOptions, binary};
use cairn_tests::rng::{Rng, seeds};
use cairn_tests::scratch::{Medium, Scratch};
use cairn_tests::writers::{Moment, Progress, Reached, Writer};

/// Writers at work while images are taken.
const WRITERS: u64 = 4;
/// Images taken while the node runs, before it is killed.
const ROUND_IMAGES: u64 = 20;
/// Images taken while it starts again.
const START_IMAGES: u64 = 3;

/// The disk of a node, inside a file system that shares blocks.
struct Disk {
    // Dropped in this order.
    ext4: Mounted,
    xfs: Mounted,
}

/// A copy of the disk, and how far each writer was.
struct Image {
    file: PathBuf,
    moments: Vec<Moment>,
    took: Duration,
}

impl Disk {
    fn make() -> Result<Disk, String> {
        let xfs = Mounted::made(Scratch::new(Medium::File), "xfs", 16 << 10)?;
        let file = xfs.at().join("disk");
        mount::make("ext4", 2 << 10, &file)?;
        let ext4 = Mounted::file(&file, &xfs.at().join("live"))?;
        let disk = Disk { ext4, xfs };
        // Whether blocks can be shared is known once it was tried.
        disk.copy("trial")
            .and_then(|file| std::fs::remove_file(file).map_err(|e| e.to_string()))?;
        Ok(disk)
    }

    fn copy(&self, name: &str) -> Result<PathBuf, String> {
        let to = self.xfs.at().join(name);
        let from = self.xfs.at().join("disk").display().to_string();
        mount::run("cp", &["--reflink=always", &from], &to)?;
        Ok(to)
    }

    /// What a loss of power now would leave.
    fn image(&self, number: u64, writers: &[Arc<Progress>]) -> Image {
        let start = Instant::now();
        let before: Vec<Moment> = writers.iter().map(|writer| writer.moment()).collect();
        let file = self.copy(&format!("image-{number}")).expect("a copy like the one before");
        let after = writers.iter().map(|writer| writer.moment());
        let moments = before.iter().zip(after);
        let moments = moments
            .map(|(before, after)| Moment { acknowledged: before.acknowledged, sent: after.sent });
        Image { moments: moments.collect(), file, took: start.elapsed() }
    }
}

/// What a run came to.
#[derive(Debug, Default)]
struct Tally {
    images: u64,
    /// Writes acknowledged in all.
    acknowledged: usize,
    /// Writes that had been acknowledged before an image, summed over the images.
    judged: usize,
    /// Milliseconds that each copy took.
    copy_ms: Vec<f64>,
    /// Images that a start mended: the log's last batch was cut short.
    mended: u64,
    /// What was wrong, image by image.
    wrong: Vec<String>,
}

struct Rig {
    disk: Disk,
    rng: Rng,
    writers: Vec<Writer>,
    seed: u64,
    durability: &'static str,
    tally: Tally,
}

impl Rig {
    /// None where no such disk can be made; the reason has been printed.
    fn new(durability: &'static str, seed: u64) -> Option<Rig> {
        let skipped = |why| eprintln!("skipped: no images of a disk can be taken here: {why}");
        let disk = Disk::make().map_err(skipped).ok()?;
        let writers = (0..WRITERS).map(|id| Writer::new(id, seed)).collect();
        let tally = Tally::default();
        Some(Rig { disk, rng: Rng::new(seed), writers, seed, durability, tally })
    }

    fn options(&self, disk: &Path) -> NodeOptions {
        let options = NodeOptions::new(&disk.join("node"));
        options.set("durability", self.durability).set("memory", "256mb")
    }

    fn progress(&self) -> Vec<Arc<Progress>> {
        self.writers.iter().map(Writer::progress).collect()
    }

    /// Writes, with images at random moments, until the node is killed; then an image or two of
    /// its start.
    fn round(&mut self, node: Node, count: u64) -> (Node, Vec<Image>) {
        let progress = self.progress();
        let first = self.tally.images;
        let (disk, rng, address) = (&self.disk, &mut self.rng, node.address());
        let mut images = std::thread::scope(|scope| {
            for writer in &mut self.writers {
                scope.spawn(move || writer.run(address));
            }
            let images = (0..count).map(|number| {
                std::thread::sleep(Duration::from_millis(5 + rng.below(120)));
                disk.image(first + number, &progress)
            });
            let images: Vec<Image> = images.collect();
            node.kill9();
            images
        });
        // Commits soon or seldom, so that images meet them and long logs alike.
        let epoch_ms = *self.rng.pick(&["20", "200", "2000"]);
        let options = self.options(self.disk.ext4.at()).set("epoch-ms", epoch_ms);
        let (disk, rng) = (&self.disk, &mut self.rng);
        let node = std::thread::scope(|scope| {
            let starting = scope.spawn(|| options.start());
            for number in 0..START_IMAGES {
                std::thread::sleep(Duration::from_millis(rng.below(15)));
                images.push(disk.image(first + count + number, &progress));
            }
            starting.join().expect("the node starts again")
        });
        (node, images)
    }

    fn run(&mut self, images: u64) {
        let mut node = self.options(self.disk.ext4.at()).start();
        while self.tally.images < images {
            let count = ROUND_IMAGES.min(images - self.tally.images);
            let (next, images) = self.round(node, count);
            node = next;
            self.judge_all(images);
            let moments = self.progress().into_iter().map(|writer| writer.moment().acknowledged);
            self.tally.acknowledged += moments.sum::<usize>();
            let mut conn = node.connect();
            self.writers.iter_mut().for_each(|writer| writer.check(&mut conn, self.seed));
        }
        node.stop();
    }

    fn judge_all(&mut self, images: Vec<Image>) {
        let mut from: Vec<Reached> = self.writers.iter().map(Writer::settled).collect();
        for image in images {
            let number = self.tally.images;
            self.tally.images += 1;
            self.tally.judged += image.moments.iter().map(|m| m.acknowledged).sum::<usize>();
            self.tally.copy_ms.push(image.took.as_secs_f64() * 1e3);
            if let Err(why) = self.judge(&image, &mut from) {
                self.tally.wrong.push(format!("image {number}: {why}"));
            }
            std::fs::remove_file(&image.file).expect("an image of ours");
        }
    }

    /// Starts a node on an image, and compares what it holds with what was written.
    fn judge(&mut self, image: &Image, from: &mut [Reached]) -> Result<(), String> {
        let disk = Mounted::file(&image.file, &self.disk.xfs.at().join("look"))?;
        let options = self.options(disk.at());
        // Under `everysec` the log may lack entries that the pool has, which only a start forgives.
        if self.durability == "always" {
            self.tally.mended += u64::from(check(&disk.at().join("node"), &[0, 1])? == 1);
        }
        let node = options.try_start().map_err(|refusal| format!("refused: {}", refusal.text))?;
        let mut conn = node.connect();
        let mut keys = 0;
        for ((writer, from), moment) in self.writers.iter().zip(from).zip(&image.moments) {
            keys += writer.judge(&mut conn, from, *moment)?;
        }
        let there = conn.call(&["DBSIZE"]).map_err(|e| e.to_string())?;
        if there.int() != Some(keys as i64) {
            return Err(format!("DBSIZE says {there:?}, the writers have {keys} keys there"));
        }
        node.stop();
        check(&disk.at().join("node"), &[0]).map(drop)
    }
}

/// Runs `cairn check --deep`; its exit code, which must be one of those `allowed`.
fn check(dir: &Path, allowed: &[i32]) -> Result<i32, String> {
    let mut command = Command::new(binary());
    command.args(["check", "--deep", "--dir"]).arg(dir).env_remove("CAIRN_DIR");
    let output = command.output().map_err(|e| e.to_string())?;
    match output.status.code() {
        Some(code) if allowed.contains(&code) => Ok(code),
        code => {
            let said = [output.stdout, output.stderr].concat();
            Err(format!("cairn check: {code:?}: {}", String::from_utf8_lossy(&said)))
        }
    }
}

/// So many images: `CAIRN_BLOCK_IMAGES`, or a few.
fn images(usual: u64) -> u64 {
    let text = std::env::var("CAIRN_BLOCK_IMAGES");
    text.map_or(usual, |text| text.parse().expect("CAIRN_BLOCK_IMAGES is a number"))
}

#[test]
fn no_image_of_the_disk_lacks_what_was_acknowledged() {
    for seed in seeds(1) {
        let Some(mut rig) = Rig::new("always", seed) else { return };
        eprintln!("images of a disk: seed {seed} (CAIRN_SEED={seed} repeats it)");
        rig.run(images(6));
        let Tally { images, acknowledged, judged, mended, wrong, copy_ms } = rig.tally;
        let copied = cairn_tests::bench::median(copy_ms);
        eprintln!(
            "images of a disk: {images} images, each copied in {copied:.1} ms (median), of \
             {acknowledged} acknowledged writes; {judged} acknowledged before an image, summed \
             over all; {mended} with a batch cut short; {} wrong",
            wrong.len()
        );
        assert!(judged > 0, "nothing was acknowledged before any image");
        assert!(wrong.is_empty(), "{} of {images} images are wrong: {}", wrong.len(), wrong[0]);
    }
}

/// The images can tell: a node that acknowledges from the page cache lacks writes in them. A start
/// takes what is there all the same.
#[test]
fn images_of_a_node_that_syncs_each_second_lack_writes() {
    let seed = seeds(1)[0];
    let Some(mut rig) = Rig::new("everysec", seed) else { return };
    eprintln!("images of a disk, everysec: seed {seed} (CAIRN_SEED={seed} repeats it)");
    rig.run(images(3));
    let Tally { images, wrong, .. } = rig.tally;
    eprintln!("images of a disk, everysec: {} of {images} lack acknowledged writes", wrong.len());
    assert!(!wrong.is_empty(), "nothing is missing in {images} images");
    let others: Vec<&String> = wrong.iter().filter(|why| !why.contains("no prefix")).collect();
    assert!(others.is_empty(), "{others:?}");
}
