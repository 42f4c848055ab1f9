//! How much a peer may send before it is refused.

/// Bounds on what is decoded. Exceeding one is a protocol error, after which the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one bulk string (Redis: `proto-max-bulk-len`).
    pub max_bulk_bytes: usize,
    /// Arguments of one request; elements of one reply.
    pub max_args: usize,
    /// Bytes of an inline request, and of any other line.
    pub max_inline_bytes: usize,
    /// Bytes of one whole request (Redis: `client-query-buffer-limit`).
    pub max_query_bytes: usize,
    /// Aggregates within each other in a reply.
    pub max_depth: usize,
    /// Whether refusals say `unauthenticated`, as Redis's do before AUTH.
    pub authenticated: bool,
}

impl Limits {
    /// What an authenticated client may send: Redis's defaults.
    pub const AUTHENTICATED: Self = Self {
        max_bulk_bytes: 512 << 20,
        max_args: 1 << 20,
        max_inline_bytes: 64 << 10,
        max_query_bytes: 1 << 30,
        max_depth: 128,
        authenticated: true,
    };

    /// What a client may send before AUTH: Redis's 10 arguments of 16 KiB.
    pub const UNAUTHENTICATED: Self =
        Self { max_bulk_bytes: 16384, max_args: 10, authenticated: false, ..Self::AUTHENTICATED };
}

impl Default for Limits {
    fn default() -> Self {
        Self::AUTHENTICATED
    }
}
