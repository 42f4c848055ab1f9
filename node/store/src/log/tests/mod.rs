//! Tests of the log: by rows here, against a model in [`model`], at every crash point in
//! [`crash`], with flipped bits in [`damage`].

mod basic;
