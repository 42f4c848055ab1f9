//! THE table: one row a command, by family.
//!
//! A new command is a row here (and its number in [`CommandId`]) and a handler; arity checks,
//! routing, ACL categories, COMMAND and its documentation follow from the row.
//! Source: the command reference of Redis 7.2, for all but `cairn`.

mod cairn;
mod connection;
mod hashes;
mod internal;
mod keys;
mod lists;
mod server;
mod sets;
mod strings;
mod transactions;
mod zsets;

use super::id::CommandId;
use super::spec::Spec;

const FAMILIES: &[&[Spec]] = &[
    strings::ROWS,
    keys::ROWS,
    hashes::ROWS,
    lists::ROWS,
    sets::ROWS,
    transactions::ROWS,
    zsets::ROWS,
    connection::ROWS,
    server::ROWS,
    cairn::ROWS,
    internal::ROWS,
];

const COUNT: usize = CommandId::ALL.len();

/// Every row: a container is followed by its subcommands, internal operations come last.
pub static TABLE: &[Spec] = &ROWS;

static ROWS: [Spec; COUNT] = flattened();

const fn flattened() -> [Spec; COUNT] {
    let mut rows = [FAMILIES[0][0]; COUNT];
    let (mut family, mut at) = (0, 0);
    while family < FAMILIES.len() {
        let mut row = 0;
        while row < FAMILIES[family].len() {
            rows[at] = FAMILIES[family][row];
            at += 1;
            row += 1;
        }
        family += 1;
    }
    assert!(at == COUNT, "a command has no row, or two");
    rows
}

/// `INDEX_OF[number]` is the row's place in the table, for the numbers below the internal ones.
static INDEX_OF: [u8; 1024] = index_of();

const fn index_of() -> [u8; 1024] {
    let rows = flattened();
    let mut index = [u8::MAX; 1024];
    let mut i = 0;
    while i < COUNT {
        let number = rows[i].id.number() as usize;
        if number < index.len() {
            assert!(index[number] == u8::MAX, "two rows for one command");
            index[number] = i as u8;
        }
        i += 1;
    }
    index
}

impl CommandId {
    /// The command's row.
    #[must_use]
    pub fn spec(self) -> &'static Spec {
        &ROWS[self.row()]
    }

    /// The row's place in [`TABLE`], for whoever keeps something for each command.
    #[must_use]
    pub fn row(self) -> usize {
        let number = usize::from(self.number());
        match INDEX_OF.get(number) {
            Some(&index) => usize::from(index),
            // Internal rows are the table's last, numbered from the first on.
            None => COUNT - internal::ROWS.len() + (number - internal::FIRST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::Place;
    use super::*;

    #[test]
    fn every_command_finds_its_own_row() {
        for &id in CommandId::ALL {
            assert_eq!(id.spec().id, id);
            assert_eq!(CommandId::from_u16(id.number()), Some(id));
        }
        assert_eq!(CommandId::from_u16(0), None);
        assert_eq!(CommandId::from_u16(u16::MAX), None);
    }

    #[test]
    fn numbers_on_media_do_not_move() {
        let pinned = [
            (CommandId::Get, 1),
            (CommandId::Lcs, 22),
            (CommandId::Del, 100),
            (CommandId::Wait, 132),
            (CommandId::ZAdd, 320),
            (CommandId::ZScan, 351),
            (CommandId::Hello, 500),
            (CommandId::Command, 600),
            (CommandId::Snapshot, 700),
            (CommandId::SnapshotHelp, 706),
            (CommandId::InternalStage, 0xff00),
            (CommandId::InternalDropStages, 0xff02),
        ];
        for (id, number) in pinned {
            assert_eq!(id.number(), number);
        }
    }

    #[test]
    fn subcommands_stand_under_their_container() {
        for spec in TABLE {
            match spec.parent {
                Some(parent) => {
                    let prefix = format!("{}|", parent.spec().name);
                    assert!(spec.name.starts_with(&prefix), "{}", spec.name);
                }
                None => assert!(!spec.name.contains('|'), "{}", spec.name),
            }
            assert_eq!(spec.name, spec.name.to_ascii_lowercase());
        }
    }

    #[test]
    fn rows_say_what_clients_ask_for() {
        for spec in TABLE.iter().filter(|s| !s.is_internal()) {
            assert!(!spec.docs.summary.is_empty(), "{} has no summary", spec.name);
            assert!(!spec.docs.since.is_empty(), "{} has no version", spec.name);
            assert_ne!(spec.arity, 0, "{}", spec.name);
            if spec.place == Place::Write && spec.keys.is_empty() {
                let of_all = matches!(
                    spec.id,
                    CommandId::FlushDb
                        | CommandId::FlushAll
                        | CommandId::SwapDb
                        | CommandId::SnapshotCreate
                        | CommandId::SnapshotDrop
                        | CommandId::SnapshotRollback
                );
                assert!(of_all, "{} writes, but to which keys?", spec.name);
            }
        }
    }
}
