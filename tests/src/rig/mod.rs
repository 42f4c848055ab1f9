//! Real processes under fault: nodes in namespaces of their own, a switch between them that loses
//! what it is told to, clients at all of them, and a judge of what the clients saw.
//!
//! [`namespaces`] makes the networks, [`switch`] carries what peers send, [`clients`] write, read
//! and remember, [`faults`] are what is done to the nodes meanwhile, [`scene`] holds it together and
//! judges: every history linearizable, nothing acknowledged lost, nothing acknowledged by a minority,
//! all replicas alike in the end.

pub mod clients;
pub mod faults;
pub mod namespaces;
pub mod scene;
pub mod switch;
