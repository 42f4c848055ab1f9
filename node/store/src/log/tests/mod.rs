//! Tests of the log: by rows in [`basic`], against a model with crashes in [`model`], at every
//! persist point in [`crash`], with flipped bits in [`damage`].

mod basic;
mod crash;
mod damage;
mod disk;
mod model;
