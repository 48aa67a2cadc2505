//! What does it look like? Known shapes of leaks, recognised by frames of the runtime, the standard library and a few libraries,
//! by what goroutines wait for, and by the version of Go.
//!
//! A hint is advice, and stands only on what is really there. No name of a user's function is ever looked at: of a stack only
//! what lies above the first frame of somebody else's code counts.

mod table;
#[cfg(test)]
mod tests;

pub use self::table::Hint;

use super::goroutines::{ObjectKind, TableSite, TableState};
use crate::symbolize::names::{is_main_module, is_runtime, is_standard_library, package_of};
use crate::symbolize::{Frame, Origin};

/// The first minor version whose timers and tickers are collected when nobody refers to them
/// (<https://go.dev/doc/go1.23#timer-changes>).
const TIMERS_COLLECTED: u32 = 23;
/// A queue before a lock has at least so many, with a quarter as many locks at most.
const QUEUE_MIN: u64 = 10;
/// Libraries whose frames are looked at, by the beginning of the package's path.
const LIBRARIES: [&str; 7] = [
    "go.uber.org/zap",
    "google.golang.org/protobuf",
    "github.com/golang/protobuf",
    "gorm.io/gorm",
    "github.com/redis/go-redis",
    "github.com/go-redis/redis",
    "golang.org/x/net/http2",
];

/// What one rule looks for in the names of functions, leaf first.
type Rule = (fn(&Path<'_>) -> bool, Hint);

/// The first that fits is said: who asks for memory of somebody else comes before how it is done.
const ALLOCATION_RULES: &[Rule] = &[
    (
        |path| path.has(&["runtime.SetFinalizer", "runtime.addfinalizer", "runtime.AddCleanup[...]"]),
        Hint::FinalizerBacklog,
    ),
    (|path| path.leaf_is(&["runtime.newdefer", "runtime.deferproc"]), Hint::DeferInLoop),
    (|path| path.is_grown_buffer(), Hint::GrownBuffer),
    (|path| path.is_made_for_pool(), Hint::PooledObject),
    (|path| path.has(&["go.uber.org/zap.(*Logger).With", "go.uber.org/zap.(*SugaredLogger).With"]), Hint::LoggerWith),
    (|path| path.is_of_redis_pool(), Hint::RedisConnections),
    (|path| path.has_prefix(&["gorm.io/gorm."]), Hint::GormStatement),
    (|path| path.has(&["database/sql.OpenDB", "database/sql.Open"]), Hint::SqlOpenEach),
    (
        |path| {
            path.has_prefix(&[
                "database/sql.(*DB).",
                "database/sql.(*Conn).",
                "database/sql.(*Tx).",
                "database/sql.(*Stmt).",
            ])
        },
        Hint::SqlConnections,
    ),
    (|path| path.is_unknown_field(), Hint::ProtobufUnknownFields),
    (|path| path.is_of_protobuf(), Hint::ProtobufKept),
    (|path| path.has_prefix(&["encoding/json.", "encoding/json/v2."]), Hint::JsonCopies),
    (|path| path.has(&["net/http.(*Transport).dialConn"]), Hint::ResponseBody),
    (|path| path.is_context(), Hint::ContextNotCancelled),
    (|path| path.has(&["time.AfterFunc"]), Hint::AfterFunc),
    (|path| path.timers_are_kept && path.has(&["time.NewTicker", "time.Tick"]), Hint::TickerNotStopped),
    (|path| path.timers_are_kept && path.has(&["time.NewTimer", "time.After"]), Hint::TimerNotDue),
    (|path| path.has_prefix(&["sync.(*Map).", "internal/sync.(*HashTrieMap["]), Hint::SyncMapGrows),
    (
        |path| {
            path.has(&["io.ReadAll", "io/ioutil.ReadAll", "os.ReadFile", "io/ioutil.ReadFile"])
                || path.has_prefix(&[
                    "bufio.(*Reader).ReadBytes",
                    "bufio.(*Reader).ReadString",
                    "bufio.(*Reader).collectFragments",
                ])
        },
        Hint::PartOfLarge,
    ),
    (|path| path.is_map(), Hint::MapNeverShrinks),
    (|path| path.is_append(), Hint::GrowingSlice),
];

/// What is known of the program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Program<'a> {
    /// 22 of go1.22; `None`: not known.
    pub go_minor: Option<u32>,
    /// Path of the main module.
    pub main_module: Option<&'a str>,
    /// Whether it links C code.
    pub cgo: bool,
}

/// What the objects look like that this stack allocates and that stay. `frames`: leaf first, with those of the runtime as far as
/// they are known.
pub fn of_allocation(frames: &[Frame], program: Program<'_>) -> Option<Hint> {
    let path = Path::of(frames, program);
    ALLOCATION_RULES.iter().find(|(fits, _)| fits(&path)).map(|(_, hint)| *hint)
}

/// Whether what this stack allocates goes through a pool, so that the line that allocates need not be the one that keeps.
pub fn is_behind_pool(frames: &[Frame], program: Program<'_>) -> bool {
    let path = Path::of(frames, program);
    path.is_made_for_pool() || path.is_buffer_of_pool()
}

/// What the goroutines of a place look like that become more: by what most of them do.
pub fn of_goroutines(site: &TableSite, program: Program<'_>) -> Option<Hint> {
    if site.states.iter().any(of_finalizer) {
        return Some(Hint::FinalizerStuck);
    }
    let most = site.states.iter().filter(|state| 2 * state.count >= site.live).max_by_key(|state| state.count);
    most.and_then(|state| of_state(state, program))
}

/// What memory outside of Go's heap looks like that grows.
pub const fn of_native(program: Program<'_>) -> Hint {
    if program.cgo { Hint::CAllocation } else { Hint::MappedMemory }
}

/// A goroutine of the runtime inside a function that the program registered.
fn of_finalizer(state: &TableState) -> bool {
    let runs =
        |frame: &Frame| ["runtime.runfinq", "runtime.runFinalizers", "runtime.runCleanups"].contains(&&*frame.function);
    state.paths.iter().any(|path| path.frames.iter().any(runs))
}

fn of_state(state: &TableState, program: Program<'_>) -> Option<Hint> {
    let frames = state.paths.first().map(|path| path.frames.as_slice()).unwrap_or_default();
    let path = Path::of(frames, program);
    let waits_for_io = state.wait_reason == "IO wait";
    let kind = state.waits_on.as_ref().map(|object| object.kind);
    let of_library = [
        (path.has(&["net/http.(*persistConn).readLoop"]) && state.wait_reason == "select", Hint::ResponseBody),
        (path.has(&["net/http.(*persistConn).readLoop"]) && waits_for_io, Hint::IdleClientConnections),
        (path.has(&["net/http.(*persistConn).writeLoop"]), Hint::IdleClientConnections),
        (path.has(&["net/http.(*persistConn).roundTrip"]), Hint::RequestWithoutTimeout),
        (path.has(&["net/http.(*conn).serve"]) && waits_for_io, Hint::ServerConnections),
        (path.has(&["database/sql.(*DB).connectionOpener"]), Hint::SqlOpenEach),
        (path.has(&["database/sql.(*DB).conn"]), Hint::SqlConnections),
        (path.has(&["database/sql.(*Tx).awaitDone", "database/sql.(*Rows).awaitDone"]), Hint::SqlConnections),
        (path.is_of_redis(), Hint::RedisConnections),
        (
            path.has_prefix(&["context.(*cancelCtx).propagateCancel.func", "context.propagateCancel.func"]),
            Hint::ContextNotCancelled,
        ),
    ];
    if let Some((_, hint)) = of_library.into_iter().find(|(fits, _)| *fits) {
        return Some(hint);
    }
    match kind {
        Some(ObjectKind::NilChan | ObjectKind::EmptySelect) => Some(Hint::WaitsForEver),
        Some(ObjectKind::WaitGroup) => Some(Hint::WaitGroup),
        Some(ObjectKind::Cond) => Some(Hint::CondWait),
        Some(ObjectKind::Timer) => Some(Hint::TickerLoop),
        Some(ObjectKind::Mutex | ObjectKind::RwMutex) if is_queue(state) => Some(Hint::MutexChain),
        Some(ObjectKind::Chan) if state.wait_reason == "chan send" => Some(Hint::BlockedSend),
        Some(ObjectKind::Chan) if state.wait_reason == "chan receive" => Some(Hint::BlockedReceive),
        Some(ObjectKind::Select) => Some(Hint::BlockedSelect),
        Some(ObjectKind::Io) => Some(Hint::IoWithoutDeadline),
        None if state.wait_reason == "runnable" && state.count >= QUEUE_MIN => Some(Hint::UnboundedGoroutines),
        _ => None,
    }
}

/// Many before few locks.
fn is_queue(state: &TableState) -> bool {
    state.count >= QUEUE_MIN && state.objects.saturating_mul(4) <= state.looked_at.max(1)
}

/// The part of a stack that is looked at: up to the first frame of somebody else's code.
#[derive(Debug)]
struct Path<'a> {
    /// Names of functions, leaf first.
    known: Vec<&'a str>,
    /// Whether a pool's New function is on it: all that is nearer to the leaf is a part of what it makes, whoever wrote it.
    is_made_by_pool: bool,
    /// Whether the runtime keeps timers that nobody refers to. Unknown versions may not.
    timers_are_kept: bool,
}

impl<'a> Path<'a> {
    fn of(frames: &'a [Frame], program: Program<'_>) -> Self {
        let is_known = |frame: &&Frame| frame.origin == Origin::Go && is_known(&frame.function, program.main_module);
        let known = frames.iter().take_while(is_known).map(|frame| &*frame.function).collect();
        Self {
            known,
            is_made_by_pool: made_by_pool(frames),
            timers_are_kept: program.go_minor.is_some_and(|minor| minor < TIMERS_COLLECTED),
        }
    }

    fn has(&self, functions: &[&str]) -> bool {
        self.known.iter().any(|known| functions.contains(known))
    }

    fn has_prefix(&self, beginnings: &[&str]) -> bool {
        self.known.iter().any(|known| beginnings.iter().any(|beginning| known.starts_with(beginning)))
    }

    /// The frames of the runtime at the leaf.
    fn of_runtime(&self) -> &[&'a str] {
        let end = self.known.iter().position(|known| !is_runtime(known)).unwrap_or(self.known.len());
        self.known.get(..end).unwrap_or_default()
    }

    fn leaf_is(&self, functions: &[&str]) -> bool {
        self.of_runtime().iter().any(|known| functions.contains(known))
    }

    /// The first function that is not the runtime's. `None`: somebody else's.
    fn caller(&self) -> Option<&'a str> {
        self.known.get(self.of_runtime().len()).copied()
    }

    /// Bytes that a buffer has taken beyond what it had.
    fn is_grown_buffer(&self) -> bool {
        let caller = self.caller().unwrap_or_default();
        caller == "bytes.growSlice"
            || ["bytes.(*Buffer).", "fmt.(*buffer).", "go.uber.org/zap/buffer.(*Buffer)."]
                .iter()
                .any(|beginning| caller.starts_with(beginning))
    }

    /// A buffer that its library keeps in a pool.
    fn is_buffer_of_pool(&self) -> bool {
        let pooled = ["fmt.(*buffer).", "go.uber.org/zap/buffer.(*Buffer).", "encoding/json.(*encodeState)."];
        self.is_grown_buffer() && self.has_prefix(&pooled)
    }

    /// An object that a pool's New function made, or that a library takes from a pool of its own.
    fn is_made_for_pool(&self) -> bool {
        let takers = [
            "encoding/json.newEncodeState",
            "fmt.newPrinter",
            "net/http.newBufioReader",
            "net/http.newBufioWriterSize",
        ];
        self.is_made_by_pool || self.has(&takers) && !self.has_prefix(&["sync.(*Pool).", "sync.(*poolChain)."])
    }

    fn is_of_redis(&self) -> bool {
        self.has_prefix(&["github.com/redis/go-redis/", "github.com/go-redis/redis/"])
    }

    fn is_of_redis_pool(&self) -> bool {
        let of_pool = |known: &&str| known.contains("/internal/pool.");
        self.is_of_redis() && self.known.iter().any(of_pool)
    }

    fn is_of_protobuf(&self) -> bool {
        self.has_prefix(&["google.golang.org/protobuf/", "github.com/golang/protobuf/"])
    }

    /// Bytes that are appended to a message outside of its fields.
    fn is_unknown_field(&self) -> bool {
        let beginning = "google.golang.org/protobuf/internal/impl.(*MessageInfo).unmarshalPointer";
        let mut callers = self.known.iter().skip(self.of_runtime().len());
        let caller = callers.find(|known| !known.starts_with("google.golang.org/protobuf/encoding/protowire."));
        self.leaf_is(&["runtime.growslice"]) && caller.is_some_and(|caller| caller.starts_with(beginning))
    }

    /// What comes into being with a context that can be cancelled.
    fn is_context(&self) -> bool {
        self.has(&[
            "context.WithCancel",
            "context.WithCancelCause",
            "context.WithDeadline",
            "context.WithDeadlineCause",
            "context.WithTimeout",
            "context.WithTimeoutCause",
        ])
    }

    /// Room of a map for more entries.
    fn is_map(&self) -> bool {
        let grows = |known: &&&str| {
            known.starts_with("runtime.mapassign")
                || known.starts_with("runtime.growWork")
                || ["runtime.hashGrow", "runtime.(*hmap).newoverflow"].contains(known)
                || ["(*table).rehash", "(*table).grow", "(*table).split", "(*Map).growTo"]
                    .iter()
                    .any(|part| known.strip_prefix("internal/runtime/maps.").is_some_and(|rest| rest.starts_with(part)))
        };
        self.of_runtime().iter().any(|known| grows(&known))
    }

    /// `append` in code that is not the standard library's.
    fn is_append(&self) -> bool {
        self.leaf_is(&["runtime.growslice"]) && self.caller().is_none()
    }
}

/// Whether a pool's New function is on a stack. What the pool allocates for itself is not an object of it.
fn made_by_pool(frames: &[Frame]) -> bool {
    let is_get = |frame: &Frame| frame.origin == Origin::Go && &*frame.function == "sync.(*Pool).Get";
    let get = frames.iter().position(is_get);
    let inner = get.and_then(|get| frames.get(get.checked_sub(1)?));
    inner.is_some_and(|inner| !is_runtime(&inner.function) && !inner.function.starts_with("sync.(*Pool)."))
}

/// Whether it is known what a function of this name does: those of the runtime, the standard library, and a few libraries.
fn is_known(function: &str, main_module: Option<&str>) -> bool {
    let Some(package) = package_of(function) else { return false };
    let of = |library: &str| package.strip_prefix(library).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    !is_main_module(&package, main_module) && (is_standard_library(&package) || LIBRARIES.into_iter().any(of))
}
