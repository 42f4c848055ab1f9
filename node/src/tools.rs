//! The commands beside `server`: `check` looks at a stopped node's pool, `health` asks a running
//! node.

use std::io::{self, IsTerminal, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use cairn_protocol::resp::encode::push_request;
use cairn_store::check::{Report, check_file};

use crate::ops::config::{CheckArgs, HealthArgs};
use crate::ops::lock_file::LockFile;
use crate::raft::recover::POOL_FILE;

/// How long `health` waits for each step.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// Walks the pool of a node that does not run, and prints what it finds.
///
/// # Errors
/// When the pool cannot be walked, or something is wrong with it.
pub fn check(args: &CheckArgs) -> Result<(), String> {
    let _lock = LockFile::acquire(&args.dir).map_err(|refusal| refusal.to_string())?;
    let path = args.dir.join(POOL_FILE);
    let mut progress = progress_line();
    let report = check_file(&path, args.deep, &mut progress).map_err(|error| error.to_string())?;
    println!("{}: {}", path.display(), summary(&report));
    if let Some(note) = &report.note {
        println!("note: {note}");
    }
    report.problems.iter().for_each(|problem| println!("problem: {problem}"));
    if report.is_clean() {
        return Ok(());
    }
    Err(format!(
        "{} problems and {} leaked blocks in {}: restore it from a backup or a peer",
        report.problem_count,
        report.leaked_blocks,
        path.display()
    ))
}

fn summary(report: &Report) -> String {
    format!(
        "epoch {}, {} keys, {} blocks of {} bytes, {}; {} problems, {} leaked blocks",
        report.epoch,
        report.keys,
        report.blocks,
        report.live_bytes,
        if report.deep { "checksums verified" } else { "checksums not verified" },
        report.problem_count,
        report.leaked_blocks
    )
}

/// Prints how far it is to a terminal, a hundred times at most.
fn progress_line() -> impl FnMut(u64, u64) {
    let (shown, mut last) = (io::stderr().is_terminal(), u64::MAX);
    move |seen, total| {
        let percent = seen.saturating_mul(100) / total.max(1);
        if shown && percent != last {
            last = percent;
            eprint!("\r{percent} % of {total} keys");
            if percent >= 100 {
                eprintln!();
            }
        }
    }
}

/// Asks a node whether it answers PING.
///
/// # Errors
/// When it does not, or asks for another password.
pub fn health(args: &HealthArgs) -> Result<(), String> {
    let place = format!("{}:{}", args.host, args.port);
    let reply = ask(&place, &args.password).map_err(|error| format!("{place}: {error}"))?;
    let last = reply.trim_end().rsplit("\r\n").next().unwrap_or_default();
    if last == "+PONG" {
        return Ok(());
    }
    Err(format!("{place} answers {}", last.trim_start_matches('-')))
}

fn ask(place: &str, password: &str) -> io::Result<String> {
    let address = place.to_socket_addrs()?.next();
    let address = address.ok_or_else(|| io::Error::other("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, HEALTH_TIMEOUT)?;
    stream.set_read_timeout(Some(HEALTH_TIMEOUT))?;
    stream.set_write_timeout(Some(HEALTH_TIMEOUT))?;
    let mut request = Vec::new();
    if !password.is_empty() {
        push_request(&mut request, [&b"AUTH"[..], password.as_bytes()].into_iter());
    }
    push_request(&mut request, [&b"PING"[..]].into_iter());
    stream.write_all(&request)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut reply = String::new();
    stream.take(4096).read_to_string(&mut reply)?;
    Ok(reply)
}
