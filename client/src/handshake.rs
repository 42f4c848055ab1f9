//! The first words on a connection: protocol, user, name, library, database.

use cairn_protocol::resp::Value;

use crate::cmd::Cmd;
use crate::connection::Connection;
use crate::error::Error;
use crate::options::Options;
use crate::reply::read;

/// Introduces the client. Servers that know no HELLO, or not version 3, are spoken to in RESP2.
pub(crate) async fn introduce(connection: &Connection, options: &Options) -> Result<(), Error> {
    let refused = match ask(connection, &[hello(options)]).await?.pop() {
        Some(Value::Error(text)) if is_old(&text) => true,
        Some(reply) => {
            read::<Value>(reply)?;
            false
        }
        None => false,
    };
    let mut required = Vec::new();
    if refused {
        required.extend(old_hello(options));
    }
    if options.database != 0 {
        required.push(Cmd::new("SELECT").uint(options.database.into()));
    }
    let required_count = required.len();
    // Servers before 7.2 refuse these; nothing depends on them.
    let optional = [
        Cmd::new("CLIENT SETINFO LIB-NAME").arg(env!("CARGO_PKG_NAME")),
        Cmd::new("CLIENT SETINFO LIB-VER").arg(env!("CARGO_PKG_VERSION")),
    ];
    let cmds: Vec<Cmd> = required.into_iter().chain(optional).collect();
    let replies = ask(connection, &cmds).await?;
    replies.into_iter().take(required_count).try_for_each(|reply| read::<Value>(reply).map(drop))
}

async fn ask(connection: &Connection, cmds: &[Cmd]) -> Result<Vec<Value>, Error> {
    let mut bytes = Vec::new();
    cmds.iter().for_each(|cmd| cmd.encode(&mut bytes));
    connection.send(bytes, cmds.len()).await
}

/// Everything in one request: a server that wants a password refuses a HELLO without it.
fn hello(options: &Options) -> Cmd {
    let mut cmd = Cmd::new("HELLO 3");
    if let Some(password) = &options.password {
        let username = options.username.as_deref().unwrap_or("default");
        cmd = cmd.arg("AUTH").arg(username).arg(password);
    }
    match &options.name {
        Some(name) => cmd.arg("SETNAME").arg(name),
        None => cmd,
    }
}

fn old_hello(options: &Options) -> impl Iterator<Item = Cmd> {
    let auth = options
        .password
        .as_ref()
        .map(|password| Cmd::new("AUTH").args(options.username.as_ref()).arg(password));
    let name = options.name.as_ref().map(|name| Cmd::new("CLIENT SETNAME").arg(name));
    auth.into_iter().chain(name)
}

fn is_old(text: &str) -> bool {
    text.starts_with("NOPROTO") || text.to_ascii_lowercase().starts_with("err unknown command")
}
