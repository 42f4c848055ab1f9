//! Ports for servers that a test starts, and starts again.
//!
//! A port that the kernel once gave out may be given to somebody else as soon as it is not bound:
//! to another test, or as the own end of a connection. These lie below what the kernel gives out,
//! and no two processes of tests are given the same.

use std::net::{TcpListener, UdpSocket};

use parking_lot::Mutex;

/// A node's peers find it on UDP so far above its clients' port, where nothing else is said.
pub const PEERS_ABOVE: u16 = 10_000;

/// The kernel gives out 32768 and up; peers' ports lie below that too.
const FIRST: u16 = 12_000;
const BLOCK_PORTS: u16 = 50;
const BLOCKS: u16 = 200;

/// Those that this process has; the last one still has ports to give.
static CLAIMED: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// Neighbouring ports. Whoever listens on the first one has the others.
struct Block {
    first: TcpListener,
    given: u16,
}

/// The first of `count` neighbouring ports that are this process's until it ends: for clients on
/// TCP, and [`PEERS_ABOVE`] them for peers on UDP.
pub fn claim(count: u16) -> u16 {
    assert!(count < BLOCK_PORTS, "{count} ports are more than a block has");
    let mut claimed = CLAIMED.lock();
    loop {
        if let Some(first) = claimed.last_mut().and_then(|block| block.take(count)) {
            return first;
        }
        claimed.push(Block::claim());
    }
}

impl Block {
    /// One that no process has.
    fn claim() -> Block {
        let from = std::process::id() % u32::from(BLOCKS);
        let blocks = (0..BLOCKS).map(|at| (from as u16 + at) % BLOCKS);
        let listen = |block| TcpListener::bind(("127.0.0.1", FIRST + block * BLOCK_PORTS)).ok();
        let first = { blocks }.find_map(listen).expect("not all blocks of ports are taken");
        Block { first, given: 1 }
    }

    /// The first of `count` ports that were not given yet and that nobody else is found on.
    fn take(&mut self, count: u16) -> Option<u16> {
        let own = self.first.local_addr().expect("a bound socket has an address").port();
        let firsts = own + self.given..=own + BLOCK_PORTS - count;
        let first = { firsts }.find(|first| (*first..first + count).all(is_free))?;
        self.given = first + count - own;
        Some(first)
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
        && UdpSocket::bind(("127.0.0.1", port + PEERS_ABOVE)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_and_taken_ones_are_left_out() {
        let first = claim(3);
        let taken = TcpListener::bind(("127.0.0.1", first + 3));
        let mut given: Vec<u16> = (0..100).map(|_| claim(1)).collect();
        if taken.is_ok() {
            assert!(!given.contains(&(first + 3)));
        }
        given.extend(first..first + 3);
        let count = given.len();
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), count);
        assert!(given.iter().all(|port| port + PEERS_ABOVE < 32_768));
    }
}
