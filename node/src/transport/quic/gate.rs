//! Who may begin a handshake: whoever finds the port can begin one and go silent, and must not take
//! the places of the peers.
//!
//! Of all places a quarter is for addresses at which a peer is known to be, and a stranger's address
//! has a few of the others. An address counts as its own only once whoever uses it has shown that
//! packets reach it there.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;

use super::Limits;

/// Addresses of peers kept in mind; more are strangers'.
const KNOWN_MAX: usize = 1024;

/// The handshakes that are under way.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    from: HashMap<IpAddr, usize>,
    known: HashSet<IpAddr>,
}

/// What becomes of one who wants to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It may, and has a place until [`Gate::leave`].
    Welcome,
    /// It must show first that its address is its own.
    Prove,
    /// There is no place.
    Full,
}

impl Gate {
    /// A peer is at this address, or said to be.
    pub(super) fn expect(&self, address: IpAddr) {
        let mut state = self.0.lock();
        if state.known.len() < KNOWN_MAX {
            state.known.insert(source(address));
        }
    }

    /// Somebody at this address wants to begin; `is_proven`: packets reach it there.
    pub(super) fn enter(&self, address: IpAddr, is_proven: bool, limits: &Limits) -> Entry {
        let mut state = self.0.lock();
        let entry = state.judge(source(address), is_proven, limits);
        if entry == Entry::Welcome {
            state.waiting += 1;
            *state.from.entry(source(address)).or_default() += 1;
        }
        entry
    }

    /// One who was welcome has proved itself, or has not in time.
    pub(super) fn leave(&self, address: IpAddr) {
        let mut state = self.0.lock();
        state.waiting = state.waiting.saturating_sub(1);
        let address = source(address);
        if let Some(count) = state.from.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                state.from.remove(&address);
            }
        }
    }

    /// How many handshakes are under way.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.0.lock().waiting
    }
}

impl State {
    fn judge(&self, address: IpAddr, is_proven: bool, limits: &Limits) -> Entry {
        let is_known = self.known.contains(&address);
        let is_trusted = is_known || limits.trusts_loopback && address.is_loopback();
        let own = self.from.get(&address).copied().unwrap_or_default();
        let reserved = if is_known { 0 } else { limits.handshakes_max / 4 };
        let is_crowded = !is_trusted && own >= limits.handshakes_each;
        if !is_proven && (is_crowded || self.waiting >= limits.handshakes_trusted) {
            Entry::Prove
        } else if is_crowded || self.waiting >= limits.handshakes_max - reserved {
            Entry::Full
        } else {
            Entry::Welcome
        }
    }
}

/// What counts as one address: of IPv6 the network, all of which is usually one machine's.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn limits() -> Limits {
        Limits {
            handshakes_max: 16,
            handshakes_trusted: 6,
            handshakes_each: 3,
            ..Limits::default()
        }
    }

    #[test]
    fn an_address_has_a_few_places_and_strangers_leave_some_to_peers() {
        let (gate, limits) = (Gate::default(), limits());
        let enter = |address: &str, proven| gate.enter(ip(address), proven, &limits);
        gate.expect(ip("10.0.0.1"));
        for _ in 0..3 {
            assert_eq!(enter("10.0.0.9", false), Entry::Welcome);
        }
        assert_eq!(enter("10.0.0.9", false), Entry::Prove, "perhaps it is not there at all");
        assert_eq!(enter("10.0.0.9", true), Entry::Full);
        for last in 0..9 {
            assert_eq!(enter(&format!("10.0.1.{last}"), true), Entry::Welcome);
        }
        assert_eq!(enter("10.0.2.1", false), Entry::Prove);
        assert_eq!(enter("10.0.2.1", true), Entry::Full, "a quarter is not for strangers");
        assert_eq!(enter("10.0.0.1", false), Entry::Prove);
        for _ in 0..4 {
            assert_eq!(enter("10.0.0.1", true), Entry::Welcome);
        }
        assert_eq!(enter("10.0.0.1", true), Entry::Full);
        assert_eq!(gate.waiting(), 16);
        (0..4).for_each(|_| gate.leave(ip("10.0.0.1")));
        gate.leave(ip("10.0.0.9"));
        assert_eq!(enter("10.0.0.9", true), Entry::Welcome);
        assert_eq!(enter("10.0.0.9", true), Entry::Full);
    }

    #[test]
    fn what_is_one_machines_counts_as_one_address() {
        let (gate, limits) = (Gate::default(), limits());
        let enter = |address: &str| gate.enter(ip(address), true, &limits);
        for address in ["2001:db8:0:1::1", "2001:db8:0:1:2::3", "2001:db8:0:1:f:f:f:f"] {
            assert_eq!(enter(address), Entry::Welcome);
        }
        assert_eq!(enter("2001:db8:0:1::4"), Entry::Full);
        assert_eq!(enter("2001:db8:0:2::4"), Entry::Welcome);
        for _ in 0..3 {
            assert_eq!(enter("::ffff:10.0.0.9"), Entry::Welcome);
        }
        assert_eq!(enter("10.0.0.9"), Entry::Full);
        for _ in 0..5 {
            assert_eq!(enter("127.0.0.1"), Entry::Welcome, "nodes of one machine");
        }
    }
}
