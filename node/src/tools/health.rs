//! `cairn health`: does a running node answer, and is it ready to serve?

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use cairn_protocol::resp::encode::push_request;

use crate::ops::config::HealthArgs;

/// How long `health` waits for each step.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// A cheap read, which is only answered by who leads or reaches who does.
pub(super) const NEEDS_LEADER: &[u8] = b"DBSIZE";

/// Asks a node whether it answers PING; with `ready`, whether it answers what needs a leader.
///
/// # Errors
/// When it does not, or asks for another password.
pub fn health(args: &HealthArgs) -> Result<(), String> {
    let place = format!("{}:{}", args.host, args.port);
    let question: &[u8] = if args.ready { NEEDS_LEADER } else { b"PING" };
    let reply = ask(&place, &args.password, &[question]);
    let reply = reply.map_err(|error| format!("{place}: {}", why(&error)))?;
    let last = reply.trim_end().rsplit("\r\n").next().unwrap_or_default();
    if last == "+PONG" || args.ready && last.starts_with(':') {
        return Ok(());
    }
    Err(format!("{place} answers {}", last.trim_start_matches('-')))
}

/// For people: what the system says of a wait that was too long is that it may be tried again.
fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("no answer within {} s", HEALTH_TIMEOUT.as_secs())
        }
        _ => error.to_string(),
    }
}

/// Sends a command to the node at `place`; what it answers, the replies of AUTH before that.
pub(super) fn ask(place: &str, password: &str, command: &[&[u8]]) -> io::Result<String> {
    let address = place.to_socket_addrs()?.next();
    let address = address.ok_or_else(|| io::Error::other("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, HEALTH_TIMEOUT)?;
    stream.set_read_timeout(Some(HEALTH_TIMEOUT))?;
    stream.set_write_timeout(Some(HEALTH_TIMEOUT))?;
    let mut request = Vec::new();
    if !password.is_empty() {
        push_request(&mut request, [&b"AUTH"[..], password.as_bytes()].into_iter());
    }
    push_request(&mut request, command.iter().copied());
    stream.write_all(&request)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut reply = String::new();
    stream.take(4096).read_to_string(&mut reply)?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_node_that_says_nothing_is_said_to_say_nothing() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = silent.local_addr().expect("an address").port();
        let (host, password) = ("127.0.0.1".to_owned(), String::new());
        let said = health(&HealthArgs { host, port, password, ready: true });
        assert_eq!(said, Err(format!("127.0.0.1:{port}: no answer within 2 s")));
    }
}
