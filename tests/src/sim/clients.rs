//! Clients: each does one operation after the other on a few keys, through whichever node it likes,
//! and writes no value that anybody has written before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_node::raft::{Submission, Way};
use cairn_protocol::command::{Place, resolve};
use cairn_protocol::resp::Argv;
use parking_lot::Mutex;

use super::invariants::Violation;
use super::member::Member;
use super::trace::Event;
use super::world::{World, mortal, on_behalf_of};
use crate::history::{Operation, State, Value};

/// For so long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What clients did and saw.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Operations>>);

#[derive(Default)]
struct Operations {
    all: Vec<Operation>,
    /// Writes that are not answered yet, by value.
    open: BTreeMap<Value, Operation>,
    last_value: Value,
}

impl History {
    /// All of it.
    pub fn operations(&self) -> Vec<Operation> {
        let operations = self.0.lock();
        operations.all.iter().chain(operations.open.values()).copied().collect()
    }

    fn next_value(&self) -> Value {
        let mut operations = self.0.lock();
        operations.last_value += 1;
        operations.last_value
    }

    fn begin(&self, write: Operation) {
        let mut operations = self.0.lock();
        operations.open.extend(write.wrote.map(|value| (value, write.unanswered())));
    }

    /// A write was not executed.
    fn take_back(&self, value: Value) {
        self.0.lock().open.remove(&value);
    }

    fn answered(&self, operation: Operation) {
        let mut operations = self.0.lock();
        if let Some(value) = operation.wrote {
            operations.open.remove(&value);
        }
        operations.all.push(operation);
    }
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Read,
    Write,
    /// Writes, and is told what was there.
    Swap,
}

/// What came of a command.
enum Answer {
    Reply(String),
    /// Nobody knows.
    Unknown,
}

/// A client, until the world says that it is enough.
pub async fn run(world: Arc<World>, history: History, client: u64, until: u64) {
    let mut node = None;
    while world.now() < until && !world.is_over() {
        world.sleep_us(1 + world.draw(world.plan().think_us)).await;
        let members = world.members();
        if members.is_empty() || world.now() >= until {
            continue;
        }
        // It stays where it is for a while.
        let stays =
            node.filter(|id| world.draw(4) > 0 && members.iter().any(|m| m.machine.id == *id));
        let at = world.draw(members.len() as u64) as usize;
        let member = members.iter().find(|member| Some(member.machine.id) == stays);
        let member = member.unwrap_or(&members[at]).clone();
        node = Some(member.machine.id);
        let key = world.draw(world.plan().keys);
        let does =
            world.draw_with(|rng| *rng.pick(&[Does::Read, Does::Read, Does::Write, Does::Swap]));
        let does = if world.is_quiet() { Does::Read } else { does };
        operate(&world, &history, &member, client, key, does).await;
    }
}

/// Writes each key once, and reads it; says whether that worked.
pub async fn settle(world: Arc<World>, history: History, client: u64) -> bool {
    let Some(leader) = world.leader() else { return false };
    for key in 0..world.plan().keys {
        for does in [Does::Swap, Does::Read] {
            if !operate(&world, &history, &leader, client, key, does).await {
                return false;
            }
        }
    }
    true
}

/// Does one operation and takes note of it; says whether it was answered.
async fn operate(
    world: &Arc<World>,
    history: &History,
    member: &Arc<Member>,
    client: u64,
    key: u64,
    does: Does,
) -> bool {
    let value = history.next_value();
    let command = match does {
        Does::Read => format!("GET k{key}"),
        Does::Write => format!("SET k{key} {}{}", text(value), tail(world)),
        Does::Swap => format!("SET k{key} {}{} GET", text(value), tail(world)),
    };
    world.note(Event::Asked(client, format!("{command} of {}", member.machine.id)));
    let invoked = world.now();
    match does {
        Does::Read => world.invariants(|all| all.fresh_reads.ask(value, all.acknowledged.count())),
        _ => history.begin(Operation::write(client, key, value, invoked, 0)),
    }
    let answer = call(world, member, value, &command).await;
    let returned = world.now();
    if does == Does::Read {
        world.invariants(|all| match &answer {
            Answer::Reply(reply) if state(reply).is_some() => all.fresh_reads.answer(value),
            _ => all.fresh_reads.give_up(value),
        });
    }
    let told = match &answer {
        Answer::Reply(reply) => reply.trim_end().replace("\r\n", " "),
        Answer::Unknown => "nothing".to_owned(),
    };
    world.note(Event::Answered(client, told));
    world.count("operations");
    let reply = match answer {
        Answer::Unknown => {
            world.count("operations without an answer");
            return false;
        }
        // Nothing was done: nobody leads, or there is no room until a commit has freed some.
        Answer::Reply(reply) if reply.starts_with("-CLUSTERDOWN") || reply.starts_with("-OOM") => {
            history.take_back(value);
            world.count("operations refused");
            return false;
        }
        Answer::Reply(reply) => reply,
    };
    let operation = match (does, reply.as_str()) {
        (Does::Write, "+OK\r\n") => Operation::write(client, key, value, invoked, returned),
        (Does::Read, reply) if state(reply).is_some() => {
            Operation::read(client, key, state(reply).flatten(), invoked, returned)
        }
        (Does::Swap, reply) if state(reply).is_some() => {
            let saw = state(reply).flatten();
            Operation::swap(client, key, (saw, value), invoked, returned)
        }
        _ => {
            world.violated(Violation {
                invariant: "every answer is one of Redis's",
                what: format!("{command} was answered {reply:?}"),
            });
            return false;
        }
    };
    if does != Does::Read {
        world.invariants(|invariants| invariants.acknowledged.note(text(value)));
    }
    history.answered(operation);
    true
}

/// All of one length, so that none is a part of another.
fn text(value: Value) -> String {
    format!("v{value:08}")
}

/// What makes values differ in length, so that they lie in different places of a pool.
fn tail(world: &World) -> String {
    ".".repeat(world.draw(world.plan().tail_bytes + 1) as usize)
}

/// What a key holds by a reply; None when that says something else.
fn state(reply: &str) -> Option<State> {
    if reply == "$-1\r\n" {
        return Some(None);
    }
    let (_, value) = reply.strip_prefix('$')?.strip_suffix("\r\n")?.split_once("\r\nv")?;
    value.trim_end_matches('.').parse().ok().map(Some)
}

/// Has a member execute a command; `session` is this operation's alone, so that whoever executes it
/// elsewhere knows for whom.
async fn call(world: &Arc<World>, member: &Arc<Member>, session: u64, command: &str) -> Answer {
    let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    let argv = Argv::from(&words[..]);
    let spec = resolve(argv).expect("a command");
    let mut submission = Submission::new();
    match spec.place {
        Place::Write => submission.batch().push_write(spec, 0, argv, false),
        _ => submission.batch().push_read(spec, 0, argv, false),
    }
    let mut way = Way::new(&member.group, session, &member.stats, &mut submission);
    let ran = mortal(world, member, PATIENCE, on_behalf_of(world, session, way.run())).await;
    if ran.is_none() || way.is_lost() {
        return Answer::Unknown;
    }
    let mut replies = Vec::new();
    way.batch().take_replies(&mut replies);
    let reply = String::from_utf8(replies).expect("text");
    // What stopped in the middle of it says so, and not whether it was executed.
    if reply.starts_with("-MISCONF") { Answer::Unknown } else { Answer::Reply(reply) }
}
