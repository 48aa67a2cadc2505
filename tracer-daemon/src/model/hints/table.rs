//! The shapes that are known, each with a sentence. What they mean and how to repair them is in `docs/hints.md`.

macro_rules! hints {
    ($( $(#[$about:meta])* $variant:ident = $id:literal: $sentence:literal, )*) => {
        /// A known shape that something looks like. It is advice: the shape is seen, its cause is guessed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Hint {
            $( $(#[$about])* $variant, )*
        }

        impl Hint {
            /// All that this version knows.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// Stable identifier, never reused; also the anchor in the page of hints.
            pub const fn id(self) -> &'static str {
                match self { $( Self::$variant => $id, )* }
            }

            /// What it looks like and what to look for.
            pub const fn sentence(self) -> &'static str {
                match self { $( Self::$variant => $sentence, )* }
            }

            /// Where more is said, from the root of the project.
            pub const fn link(self) -> &'static str {
                match self { $( Self::$variant => concat!("docs/hints.md#", $id), )* }
            }
        }
    };
}

hints! {
    /// Objects that `sync.Pool` made or that were made for one.
    PooledObject = "pooled-object":
        "looks like objects of a pool: the line that allocates them need not be the one that keeps them; look for who took one and never gave it back, or keeps a part of it",
    /// Buffers that grew and are used again.
    GrownBuffer = "grown-buffer":
        "looks like buffers that grew: a pool keeps a buffer as large as it ever was, and who keeps a part of its bytes keeps all; do not give large ones back, copy what is kept",
    /// `time.AfterFunc`.
    AfterFunc = "after-func":
        "looks like timers of time.AfterFunc that are neither due nor stopped: each keeps its function and what that captured",
    /// `time.NewTicker` and `time.Tick`, before go1.23.
    TickerNotStopped = "ticker-not-stopped":
        "looks like tickers without Stop: before Go 1.23 the runtime keeps a ticker that was not stopped for ever",
    /// `time.NewTimer` and `time.After`, before go1.23.
    TimerNotDue = "timer-not-due":
        "looks like timers of time.After or time.NewTimer that are not due yet: before Go 1.23 each is kept until then, though nobody waits any more",
    /// `context.WithCancel` and the like.
    ContextNotCancelled = "context-not-cancelled":
        "looks like contexts that are never cancelled: the parent keeps each child until its cancel function is called",
    /// Objects with a finalizer or cleanup.
    FinalizerBacklog = "finalizer-backlog":
        "looks like objects with finalizers or cleanups that do not get their turn: they are kept until the function has run, and one that blocks stops all",
    /// Growth of a map.
    MapNeverShrinks = "map-never-shrinks":
        "looks like a map that grows: entries without delete, or the room that deleted ones leave, which a map never gives back",
    /// Growth of a `sync.Map`.
    SyncMapGrows = "sync-map-grows":
        "looks like a sync.Map that grows: entries are stored and not deleted",
    /// `append`.
    GrowingSlice = "growing-slice":
        "looks like a slice that append makes longer: something that lives long holds it and nothing takes elements out",
    /// What reads or builds something large as a whole.
    PartOfLarge = "part-of-large":
        "looks like whole contents that are kept: a sub-slice or substring of them keeps all; copy the part that is needed (bytes.Clone, strings.Clone)",
    /// Records of `defer` on the heap.
    DeferInLoop = "defer-in-loop":
        "looks like defer in a loop: what is deferred runs at the end of the function, not of the turn",
    /// What a decoder or encoder of JSON has made.
    JsonCopies = "json-copies":
        "looks like values or texts that encoding/json made and that are kept: a cache of copies, perhaps without a bound",
    /// Messages of protocol buffers.
    ProtobufKept = "protobuf-kept":
        "looks like protobuf messages that are kept: each holds all its fields, those it does not know included",
    /// Fields that a message does not know.
    ProtobufUnknownFields = "protobuf-unknown-fields":
        "looks like unknown fields of protobuf messages: what the schema here does not know is kept as bytes; discard it when unmarshalling, or keep less than the message",
    /// `Logger.With` of zap.
    LoggerWith = "logger-with":
        "looks like loggers made by With that are kept: each holds a copy of all fields; make it once, or let it go with the request",
    /// Statements of gorm.
    GormStatement = "gorm-statement":
        "looks like statements of gorm that are kept, or a *gorm.DB that is used again after Where and collects conditions: begin each chain with Session or WithContext",
    /// Connections of an HTTP client.
    ResponseBody = "response-body":
        "looks like responses whose body was neither read to its end nor closed: each keeps its connection and two goroutines",
    /// The same, at rest.
    IdleClientConnections = "idle-client-connections":
        "looks like HTTP connections that are open and at rest: a Transport or Client for each request, or no limit of idle connections",
    /// Requests to a server that does not answer.
    RequestWithoutTimeout = "request-without-timeout":
        "looks like HTTP requests that wait for an answer: set Client.Timeout or a context with a deadline",
    /// Connections of an HTTP server.
    ServerConnections = "server-connections":
        "looks like connections to this server that are open and at rest: set IdleTimeout and ReadHeaderTimeout",
    /// Connections of `database/sql`.
    SqlConnections = "sql-connections":
        "looks like database connections that are not given back: close Rows and Stmt, end each Tx",
    /// Many pools of connections.
    SqlOpenEach = "sql-open-each":
        "looks like sql.Open for each use: a DB is a pool with a goroutine of its own; open it once",
    /// Connections or clients of redis.
    RedisConnections = "redis-connections":
        "looks like redis connections that are not given back, or a client for each use: close Conn, PubSub and Client, open the client once",
    /// Receivers that went away.
    BlockedSend = "blocked-send":
        "looks like senders whose receiver has gone, after a timeout or an early return perhaps: give the channel room for one, or select on ctx.Done as well",
    /// Senders that went away.
    BlockedReceive = "blocked-receive":
        "looks like receivers whose sender has gone without closing the channel: close it, or select on ctx.Done as well",
    /// Several channels.
    BlockedSelect = "blocked-select":
        "looks like goroutines whose select no case ends: give it one for ctx.Done or a channel that is closed at the end",
    /// `sync.WaitGroup.Wait`.
    WaitGroup = "wait-group":
        "looks like a WaitGroup that never comes to zero: a return or a panic without Done, or Add with too large a number",
    /// `sync.Cond.Wait`.
    CondWait = "cond-wait":
        "looks like waits on a sync.Cond that nobody signals any more",
    /// Many behind one lock.
    MutexChain = "mutex-chain":
        "looks like a queue before one lock: whoever holds it does not give it back, or works too long with it; look for the goroutine that holds it",
    /// `for range ticker.C`.
    TickerLoop = "ticker-loop":
        "looks like loops over a ticker or timer that nothing ends: Stop does not close the channel; select on ctx.Done as well",
    /// Nothing can end it.
    WaitsForEver = "waits-for-ever":
        "looks like waits that nothing can end: a nil channel, or select without cases",
    /// A finalizer that does not return.
    FinalizerStuck = "finalizer-stuck":
        "looks like a finalizer or cleanup that does not return: no other one runs until it does, and all their objects are kept",
    /// More than can run.
    UnboundedGoroutines = "unbounded-goroutines":
        "looks like more goroutines than can run: one is started for each piece of work; bound their number",
    /// A network that is waited for.
    IoWithoutDeadline = "io-without-deadline":
        "looks like goroutines that wait for the network: set deadlines on the connection, and close it where its user ends",
    /// Memory outside of Go's heap, with C code.
    CAllocation = "c-allocation":
        "looks like memory of C: what C.malloc, C.CString and C.CBytes gave is freed by C.free only; no Go profile shows it and no collection frees it",
    /// Memory outside of Go's heap, without C code.
    MappedMemory = "mapped-memory":
        "looks like memory that the program maps itself (syscall.Mmap and libraries that use it): it is given back by Munmap only",
}
