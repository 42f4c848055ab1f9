//! Tests of the log: by rows in [`basic`], against a model with crashes in [`model`], at every
//! persist point in [`crash`], with a pool beside it in [`pair`], with flipped bits in [`damage`].

#[path = "../../../tests/crash/content.rs"]
mod content;

mod basic;
mod crash;
mod damage;
mod model;
mod pair;
