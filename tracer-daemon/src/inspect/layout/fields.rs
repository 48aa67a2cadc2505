//! Which structures of Go's runtime leakline reads, and which of their fields: one table, of which the Rust types, the
//! reading from DWARF and the generated table are made.
//!
//! Left out on purpose: `m.alllink` and `runtime.work`, which move between patch releases.
//! Names are those of the package runtime in go1.19 to go1.27; where they differ, `|` lies between them.

use super::LayoutError;
use super::dwarf::{Found, Wanted};

/// What is asked about a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Bytes of the whole structure.
    Size,
    /// Where a member begins, from the beginning of the structure. `bytes` is how wide those who read it expect it to
    /// be; `None` means that it is an array or a structure and its size may differ between versions.
    Offset { path: &'static str, bytes: Option<u64> },
    /// Bytes of a member that is not equally wide in all versions.
    Width { path: &'static str },
    /// Elements of a member that is an array.
    Count { path: &'static str },
    /// The value of a named constant; the structure does not matter.
    Constant { name: &'static str },
}

const fn size() -> Question {
    Question::Size
}

const fn at(path: &'static str, bytes: u64) -> Question {
    Question::Offset { path, bytes: Some(bytes) }
}

const fn place(path: &'static str) -> Question {
    Question::Offset { path, bytes: None }
}

const fn width(path: &'static str) -> Question {
    Question::Width { path }
}

const fn count(path: &'static str) -> Question {
    Question::Count { path }
}

const fn constant(name: &'static str) -> Question {
    Question::Constant { name }
}

/// A field of one of the layouts below: a number that every version has, or one that some do not have.
trait Answer: Sized {
    fn of(found: Option<u64>) -> Option<Self>;
    /// As Rust source.
    fn source(self) -> String;
}

impl Answer for u64 {
    fn of(found: Option<u64>) -> Option<Self> {
        found
    }

    fn source(self) -> String {
        self.to_string()
    }
}

impl Answer for Option<u64> {
    fn of(found: Option<u64>) -> Option<Self> {
        Some(found)
    }

    fn source(self) -> String {
        self.map_or_else(|| "None".to_owned(), |value| format!("Some({value})"))
    }
}

/// One structure of a layout, as Rust source: what the generated table is written from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructureSource {
    /// The field of [`RuntimeLayout`].
    pub name: &'static str,
    /// Its type.
    pub type_name: &'static str,
    /// Its fields and their values.
    pub fields: Vec<(&'static str, String)>,
}

macro_rules! layouts {
    ($(
        $(#[$about_type:meta])*
        $name:ident: $type:ident = $go:literal { $( $(#[$about:meta])* $field:ident: $kind:ty = $question:expr, )* }
    )*) => {
        $(
            $(#[$about_type])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $type { $( $(#[$about])* pub $field: $kind, )* }
        )*

        /// Where things lie in the runtime's structures, for one version of Go and one architecture. Offsets, widths
        /// and sizes in bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct RuntimeLayout { $( $(#[$about_type])* pub $name: $type, )* }

        /// All questions, with the names that the structure has.
        const QUESTIONS: &[(&str, &[Question])] = &[ $( ($go, &[ $( $question, )* ]), )* ];

        impl RuntimeLayout {
            /// Answers all questions from what the DWARF of a program says.
            pub(super) fn of(found: &Found) -> Result<Self, LayoutError> {
                Ok(Self { $(
                    $name: $type { $(
                        $field: Answer::of(answer(found, $go, $question)?).ok_or(LayoutError::Missing {
                            structure: $go,
                            field: stringify!($field),
                        })?,
                    )* },
                )* })
            }

            /// All values as Rust source.
            pub fn sources(&self) -> Vec<StructureSource> {
                vec![ $( StructureSource {
                    name: stringify!($name),
                    type_name: stringify!($type),
                    fields: vec![ $( (stringify!($field), Answer::source(self.$name.$field)), )* ],
                }, )* ]
            }
        }
    };
}

layouts! {
    /// `runtime.g` (runtime/runtime2.go): a goroutine.
    g: GoroutineLayout = "runtime.g" {
        /// Bytes of the structure.
        size_bytes: u64 = size(),
        /// Lower end of the stack.
        stack_lo: u64 = at("stack.lo", 8),
        /// Upper end of the stack.
        stack_hi: u64 = at("stack.hi", 8),
        /// The thread that runs it; zero where none does.
        m: u64 = at("m", 8),
        /// Stack pointer while it does not run.
        sched_sp: u64 = at("sched.sp", 8),
        /// Program counter while it does not run.
        sched_pc: u64 = at("sched.pc", 8),
        /// Frame pointer while it does not run.
        sched_bp: u64 = at("sched.bp", 8),
        /// Stack pointer while it is in a system call.
        syscallsp: u64 = at("syscallsp", 8),
        /// Program counter while it is in a system call.
        syscallpc: u64 = at("syscallpc", 8),
        /// Frame pointer while it is in a system call. None means before go1.23.
        syscallbp: Option<u64> = at("syscallbp", 8),
        /// What it is given when it wakes up: the `sudog` that became ready, or nothing.
        param: u64 = at("param", 8),
        /// Its state; the bit 0x1000 is set while its stack is scanned.
        atomicstatus: u64 = at("atomicstatus", 4),
        /// Its number, never used again.
        goid: u64 = at("goid", 8),
        /// When the collector first saw it wait; zero before.
        waitsince: u64 = at("waitsince", 8),
        /// Why it waits: an index into `runtime.waitReasonStrings`.
        waitreason: u64 = at("waitreason", 1),
        /// The number of the goroutine that started it. None means before go1.21.
        parent_goid: Option<u64> = at("parentGoid", 8),
        /// The address behind the `go` statement.
        gopc: u64 = at("gopc", 8),
        /// The function that it runs; can be a wrapper that the compiler made.
        startpc: u64 = at("startpc", 8),
        /// The first `sudog` that it waits with.
        waiting: u64 = at("waiting", 8),
        /// Its profiler labels.
        labels: u64 = at("labels", 8),
        /// Grows by one, modulo 256, each time it stops running.
        tracking_seq: u64 = at("trackingSeq", 1),
        /// What it may still allocate before it must help the collector, bytes; negative: it must.
        gc_assist_bytes: u64 = at("gcAssistBytes", 8),
        /// Whether it executes cleanups of the program. None means before go1.25.
        running_cleanups: Option<u64> = at("runningCleanups", 1),
    }
    /// `runtime.m` (runtime/runtime2.go): a thread. Its size differs between patch releases.
    m: ThreadLayout = "runtime.m" {
        /// The goroutine of the system stack.
        g0: u64 = at("g0", 8),
        /// The thread's id.
        procid: u64 = at("procid", 8),
        /// The goroutine of the signal stack.
        gsignal: u64 = at("gsignal", 8),
        /// The user's goroutine that runs.
        curg: u64 = at("curg", 8),
        /// The processor that it holds; zero where it executes no Go code.
        p: u64 = at("p", 8),
        /// Its number in the runtime.
        id: u64 = at("id", 8),
        /// Not zero while it allocates.
        mallocing: u64 = at("mallocing", 4),
    }
    /// `runtime.p` (runtime/runtime2.go): the right to execute Go code, `GOMAXPROCS` of them.
    p: ProcessorLayout = "runtime.p" {
        /// Its number.
        id: u64 = at("id", 4),
        /// Its state.
        status: u64 = at("status", 4),
        /// The thread that holds it.
        m: u64 = at("m", 8),
        /// Its cache of spans.
        mcache: u64 = at("mcache", 8),
        /// Odd while it changes the heap's statistics.
        stats_seq: u64 = at("statsSeq", 4),
        /// Its ended goroutines, kept for new ones.
        free_goroutines: u64 = at("gFree.n|gFree.size", 4),
        /// The chunk from which it takes structures that are never freed (`persistentAlloc` of runtime/malloc.go).
        persistent_chunk: u64 = at("palloc.base", 8),
    }
    /// `runtime.mspan` (runtime/mheap.go): a run of pages that holds objects of one size. Its size differs between patch
    /// releases (136 in go1.19.1, 144 in go1.19.13).
    mspan: SpanLayout = "runtime.mspan" {
        /// Address of its first byte.
        start_addr: u64 = at("startAddr", 8),
        /// Pages of 8 KiB.
        npages: u64 = at("npages", 8),
        /// Slots below this are taken or known to be.
        freeindex: u64 = place("freeindex"),
        /// Width of `freeindex`: 8, and 2 from go1.22 on.
        freeindex_bytes: u64 = width("freeindex"),
        /// Slots.
        nelems: u64 = place("nelems"),
        /// Width of `nelems`: 8, and 2 from go1.22 on.
        nelems_bytes: u64 = width("nelems"),
        /// Complement of `allocBits` from `freeindex` on.
        alloc_cache: u64 = at("allocCache", 8),
        /// Address of the mark bits of the cycle before the last sweep.
        alloc_bits: u64 = at("allocBits", 8),
        /// Address of the mark bits of the present cycle.
        gcmark_bits: u64 = at("gcmarkBits", 8),
        /// Whether it is swept, relative to that of the heap.
        sweepgen: u64 = at("sweepgen", 4),
        /// Allocated slots.
        alloc_count: u64 = at("allocCount", 2),
        /// Size class and whether its objects hold no pointers.
        spanclass: u64 = at("spanclass", 1),
        /// 1 where it is used for the heap.
        state: u64 = at("state", 1),
        /// `allocCount` at the time when a cache took it.
        alloc_count_before_cache: u64 = at("allocCountBeforeCache", 2),
        /// Bytes of a slot.
        elemsize: u64 = at("elemsize", 8),
        /// End of its objects.
        limit: u64 = at("limit", 8),
        /// The first of its special records, by offset.
        specials: u64 = at("specials", 8),
        /// The type of its one large object. None means before go1.22.
        large_type: Option<u64> = at("largeType", 8),
    }
    /// `runtime.spanInlineMarkBits` (`runtime/mgcmark_greenteagc.go`): the end of a span of small objects where the
    /// collector marks there. None in a field means that programs of this release have no
    /// such collector, unless an experiment made it (go1.25 `X:greenteagc`): their marks cannot be read then.
    inline_marks: InlineMarksLayout = "runtime.spanInlineMarkBits" {
        /// Bytes of the structure.
        size_bytes: Option<u64> = size(),
        /// The mark bits.
        marks: Option<u64> = place("marks"),
    }
    /// `runtime.heapArena` (runtime/mheap.go): what is known of 64 MiB of addresses.
    heap_arena: ArenaLayout = "runtime.heapArena" {
        /// Bytes of the structure.
        size_bytes: u64 = size(),
        /// The span of each page.
        spans: u64 = place("spans"),
        /// Pages of an arena.
        spans_count: u64 = count("spans"),
        /// A bit for each page at which a span in use begins.
        page_in_use: u64 = place("pageInUse"),
        /// A bit for each page at which a span with a marked object begins.
        page_marks: u64 = place("pageMarks"),
        /// A bit for each page whose span has its marks inside. None means before go1.25.
        page_use_span_inline_mark_bits: Option<u64> = place("pageUseSpanInlineMarkBits"),
    }
    /// `runtime.mheap` (runtime/mheap.go): the heap.
    mheap: HeapLayout = "runtime.mheap" {
        /// Grows by 2 at the end of each marking.
        sweepgen: u64 = at("sweepgen", 4),
        /// Slice of all spans.
        allspans: u64 = place("allspans"),
        /// Pages of spans in use.
        pages_in_use: u64 = at("pagesInUse", 8),
        /// First level of the table of arenas.
        arenas: u64 = place("arenas"),
        /// Bytes of `mspan` structures in use.
        span_structures_in_use: u64 = at("spanalloc.inuse", 8),
        /// Bytes of `mcache` structures in use.
        cache_structures_in_use: u64 = at("cachealloc.inuse", 8),
        /// Slices that say how much is free, one for each level (runtime/mpagealloc.go).
        page_summaries: u64 = place("pages.summary"),
        /// How many levels.
        page_summaries_count: u64 = count("pages.summary"),
        /// Pointers to bitmaps of free pages.
        page_chunks: u64 = place("pages.chunks"),
        /// How many.
        page_chunks_count: u64 = count("pages.chunks"),
        /// Slice that says which pages may be given back (runtime/mgcscavenge.go).
        scavenge_index: u64 = place("pages.scav.index.chunks"),
    }
    /// `runtime.mcache` (runtime/mcache.go): the spans that one processor allocates from.
    mcache: CacheLayout = "runtime.mcache" {
        /// Bytes of the structure.
        size_bytes: u64 = size(),
        /// Bytes, or the address, at which the memory profiler samples next.
        next_sample: u64 = at("nextSample", 8),
        /// The rate that `nextSample` was drawn with. None means before go1.24.
        mem_prof_rate: Option<u64> = at("memProfRate", 8),
        /// The block that tiny objects share.
        tiny: u64 = at("tiny", 8),
        /// Used bytes of it.
        tinyoffset: u64 = at("tinyoffset", 8),
        /// Tiny objects not yet added to the heap's statistics.
        tiny_allocs: u64 = at("tinyAllocs", 8),
        /// A span for each span class.
        alloc: u64 = place("alloc"),
        /// Span classes.
        alloc_count: u64 = count("alloc"),
    }
    /// `runtime.mstats` (runtime/mstats.go): statistics.
    mstats: StatisticsLayout = "runtime.mstats" {
        /// The deltas whose sum the heap's statistics are.
        heap_stats: u64 = place("heapStats.stats"),
        /// How many deltas.
        heap_stats_count: u64 = count("heapStats.stats"),
        /// When the last collection ended, ns since 1970.
        last_gc_unix: u64 = at("last_gc_unix", 8),
        /// All pauses, ns.
        pause_total_ns: u64 = at("pause_total_ns", 8),
        /// Ring of pauses, ns.
        pause_ns: u64 = place("pause_ns"),
        /// Entries of the ring.
        pause_ns_count: u64 = count("pause_ns"),
        /// Ring of the ends of pauses, ns since 1970.
        pause_end: u64 = place("pause_end"),
        /// Collections.
        numgc: u64 = at("numgc", 4),
        /// Collections that the program asked for.
        numforcedgc: u64 = at("numforcedgc", 4),
        /// Which delta is filled now.
        heap_stats_generation: u64 = at("heapStats.gen", 4),
        /// Bytes of stacks that the system gave directly.
        stacks_sys: u64 = at("stacks_sys", 8),
        /// Bytes for `mspan` structures.
        mspan_sys: u64 = at("mspan_sys", 8),
        /// Bytes for `mcache` structures.
        mcache_sys: u64 = at("mcache_sys", 8),
        /// Bytes for the buckets of profiles.
        buckhash_sys: u64 = at("buckhash_sys", 8),
        /// Bytes of the collector, work buffers apart.
        gc_misc_sys: u64 = at("gcMiscSys", 8),
        /// Bytes of everything else.
        other_sys: u64 = at("other_sys", 8),
        /// Share of the processors' time that the collector has had, as a floating point number.
        gc_cpu_fraction: u64 = at("gc_cpu_fraction", 8),
        /// When the last collection ended, ns of the monotonic clock.
        last_gc_nanotime: u64 = at("last_gc_nanotime", 8),
    }
    /// `runtime.heapStatsDelta` (runtime/mstats.go): changes of the heap's statistics.
    heap_stats_delta: HeapStatisticsLayout = "runtime.heapStatsDelta" {
        /// Bytes of the structure.
        size_bytes: u64 = size(),
        /// Bytes of memory that the system has given.
        committed: u64 = at("committed", 8),
        /// Bytes given back to the system.
        released: u64 = at("released", 8),
        /// Bytes in spans of the heap.
        in_heap: u64 = at("inHeap", 8),
        /// Bytes in stacks.
        in_stacks: u64 = at("inStacks", 8),
        /// Bytes in work buffers of the collector.
        in_work_buffers: u64 = at("inWorkBufs", 8),
        /// Bytes of unrolled programs of pointer bits. None means go1.25 and later: there are none.
        in_pointer_bits: Option<u64> = at("inPtrScalarBits", 8),
        /// Tiny objects allocated.
        tiny_alloc_count: u64 = at("tinyAllocCount", 8),
        /// Bytes of large objects allocated.
        large_alloc: u64 = at("largeAlloc", 8),
        /// Large objects allocated.
        large_alloc_count: u64 = at("largeAllocCount", 8),
        /// Objects allocated, by size class.
        small_alloc_count: u64 = place("smallAllocCount"),
        /// Bytes of large objects freed.
        large_free: u64 = at("largeFree", 8),
        /// Large objects freed.
        large_free_count: u64 = at("largeFreeCount", 8),
        /// Objects freed, by size class.
        small_free_count: u64 = place("smallFreeCount"),
        /// Size classes.
        size_classes: u64 = count("smallAllocCount"),
    }
    /// `runtime.gcControllerState` (runtime/mgcpacer.go): when the collector runs.
    gc_controller: PacerLayout = "runtime.gcControllerState" {
        /// GOGC; -1 where it is off.
        gc_percent: u64 = at("gcPercent", 4),
        /// GOMEMLIMIT, bytes.
        memory_limit: u64 = at("memoryLimit", 8),
        /// Bytes of heap at which the next collection ends, by GOGC alone.
        gc_percent_heap_goal: u64 = at("gcPercentHeapGoal", 8),
        /// Bytes that count as alive.
        heap_live: u64 = at("heapLive", 8),
        /// Bytes that the last collection marked.
        heap_marked: u64 = at("heapMarked", 8),
        /// Bytes in spans in use.
        heap_in_use: u64 = at("heapInUse", 8),
        /// Bytes given back to the system.
        heap_released: u64 = at("heapReleased", 8),
        /// Bytes of free spans that were not given back.
        heap_free: u64 = at("heapFree", 8),
        /// Bytes ever allocated.
        total_alloc: u64 = at("totalAlloc", 8),
        /// Bytes ever freed.
        total_free: u64 = at("totalFree", 8),
        /// Bytes mapped and not given back.
        mapped_ready: u64 = at("mappedReady", 8),
        /// The smallest goal that leaves sweeping enough time.
        sweep_min_trigger: u64 = at("sweepDistMinTrigger", 8),
        /// Bytes of heap at which the present collection began; all bits set between collections.
        triggered: u64 = at("triggered", 8),
        /// When marking began last, ns of the monotonic clock.
        mark_start_time: u64 = at("markStartTime", 8),
    }
    /// `runtime.schedt` (runtime/runtime2.go): the scheduler.
    sched: SchedulerLayout = "runtime.schedt" {
        /// The number that the next batch of goroutines begins at.
        goidgen: u64 = at("goidgen", 8),
        /// Threads that wait for work.
        nmidle: u64 = at("nmidle", 4),
        /// Threads ever made.
        mnext: u64 = at("mnext", 8),
        /// Threads that ended.
        nmfreed: u64 = at("nmfreed", 8),
        /// Goroutines of the runtime itself.
        ngsys: u64 = at("ngsys", 4),
        /// Ended goroutines, kept for new ones, with and without stacks. None means go1.25 and later: counted apart.
        free_goroutines: Option<u64> = at("gFree.n", 4),
        /// As `free_goroutines`, those with a stack. None means before go1.25.
        free_goroutines_with_stack: Option<u64> = at("gFree.stack.size", 4),
        /// As `free_goroutines`, those without. None means before go1.25.
        free_goroutines_without_stack: Option<u64> = at("gFree.noStack.size", 4),
    }
    /// `runtime.special` (runtime/mheap.go): something that is known of one object.
    special: SpecialLayout = "runtime.special" {
        /// Bytes of the structure.
        size_bytes: u64 = size(),
        /// The next of the same span.
        next: u64 = at("next", 8),
        /// Where in the span the object is.
        offset: u64 = place("offset"),
        /// Width of `offset`: 2, and 8 from go1.24 on.
        offset_bytes: u64 = width("offset"),
        /// What kind of special; see `special_kind_profile`.
        kind: u64 = at("kind", 1),
    }
    /// `runtime.specialprofile` (runtime/mheap.go): a sampled object.
    special_profile: ProfileSpecialLayout = "runtime.specialprofile" {
        /// Bytes of the structure.
        size_bytes: u64 = size(),
        /// Its bucket.
        bucket: u64 = at("b", 8),
    }
    /// `runtime.bucket` (runtime/mprof.go): one stack of a profile; the stack and the record follow it.
    bucket: BucketLayout = "runtime.bucket" {
        /// Bytes of the structure: where the stack begins.
        size_bytes: u64 = size(),
        /// The next with the same hash.
        next: u64 = at("next", 8),
        /// The next of all.
        allnext: u64 = at("allnext", 8),
        /// Of which profile: 1 is memory.
        typ: u64 = at("typ", 8),
        /// Hash of stack and size.
        hash: u64 = at("hash", 8),
        /// Bytes of each object.
        size: u64 = at("size", 8),
        /// Program counters in the stack.
        nstk: u64 = at("nstk", 8),
    }
    /// `runtime.memRecord` (runtime/mprof.go): the counts of a memory bucket.
    mem_record: MemoryRecordLayout = "runtime.memRecord" {
        /// Bytes of the structure.
        size_bytes: u64 = size(),
        /// What is published: complete up to some collection.
        active: u64 = place("active"),
        /// What is not yet published, by cycle.
        future: u64 = place("future"),
        /// How many cycles.
        future_count: u64 = count("future"),
    }
    /// `runtime.memRecordCycle` (runtime/mprof.go): the counts of one cycle.
    mem_record_cycle: MemoryCycleLayout = "runtime.memRecordCycle" {
        /// Bytes of the structure.
        size_bytes: u64 = size(),
        /// Objects allocated.
        allocs: u64 = at("allocs", 8),
        /// Objects freed.
        frees: u64 = at("frees", 8),
        /// Bytes allocated. None means go1.27 and later: objects times the bucket's size.
        alloc_bytes: Option<u64> = at("alloc_bytes", 8),
        /// Bytes freed. None means go1.27 and later.
        free_bytes: Option<u64> = at("free_bytes", 8),
    }
    /// `runtime.moduledata` (runtime/symtab.go): the linker's record of the program.
    moduledata: ModuleLayout = "runtime.moduledata" {
        /// Bytes of the structure.
        size_bytes: u64 = size(),
        /// First and last address of code in the function table.
        minpc: u64 = at("minpc", 8),
        /// As `minpc`: the end.
        maxpc: u64 = at("maxpc", 8),
        /// The address that the function table counts from.
        text: u64 = at("text", 8),
        /// The end of Go's code.
        etext: u64 = at("etext", 8),
        /// Variables without pointers that have values in the file.
        noptrdata: u64 = at("noptrdata", 8),
        /// Their end.
        enoptrdata: u64 = at("enoptrdata", 8),
        /// Variables with pointers that have values in the file.
        data: u64 = at("data", 8),
        /// Their end.
        edata: u64 = at("edata", 8),
        /// Variables with pointers that begin as zero.
        bss: u64 = at("bss", 8),
        /// Their end.
        ebss: u64 = at("ebss", 8),
        /// Variables without pointers that begin as zero.
        noptrbss: u64 = at("noptrbss", 8),
        /// Their end.
        enoptrbss: u64 = at("enoptrbss", 8),
        /// Where type descriptors begin.
        types: u64 = at("types", 8),
        /// Where they end.
        etypes: u64 = at("etypes", 8),
        /// Where read-only data begins.
        rodata: u64 = at("rodata", 8),
        /// The address that FUNCDATA offsets count from.
        gofunc: u64 = at("gofunc", 8),
        /// The next module.
        next: u64 = at("next", 8),
    }
    /// `internal/abi.Type` (internal/abi/type.go; `runtime._type` before go1.21): a type descriptor.
    type_: TypeLayout = "runtime._type|internal/abi.Type" {
        /// Bytes of the structure.
        size_bytes: u64 = size(),
        /// Bytes of a value.
        size: u64 = at("size|Size_", 8),
        /// Bytes of a value that can hold pointers: 0 means that it has none.
        ptr_bytes: u64 = at("ptrdata|PtrBytes", 8),
        /// Flags; among them whether the name begins with a star too many.
        tflag: u64 = at("tflag|TFlag", 1),
        /// Kind, as package reflect numbers them.
        kind: u64 = at("kind|Kind_", 1),
        /// Its name, from the beginning of the type descriptors.
        str: u64 = at("str|Str", 4),
    }
    /// `runtime.sudog` (runtime/runtime2.go): a goroutine in the queue of a channel or semaphore.
    sudog: WaiterLayout = "runtime.sudog" {
        /// Bytes of the structure.
        size_bytes: u64 = size(),
        /// Who waits.
        g: u64 = at("g", 8),
        /// The next of the queue.
        next: u64 = at("next", 8),
        /// Where the value is or goes; for a semaphore, its address. One pointer, two from go1.26 on.
        elem: u64 = place("elem"),
        /// The next of the same goroutine.
        waitlink: u64 = at("waitlink", 8),
        /// The channel; zero for a semaphore. One pointer, two from go1.26 on.
        c: u64 = place("c"),
        /// Whether it waits in a select.
        is_select: u64 = at("isSelect", 1),
        /// Width of `elem`: 8, and 16 from go1.26 on, of which the last 8 are the address.
        elem_bytes: u64 = width("elem"),
        /// Width of `c`, as that of `elem`.
        c_bytes: u64 = width("c"),
    }
    /// `runtime.hchan` (runtime/chan.go): a channel.
    hchan: ChannelLayout = "runtime.hchan" {
        /// Bytes of the structure.
        size_bytes: u64 = size(),
        /// Values in the buffer.
        qcount: u64 = at("qcount", 8),
        /// Room in the buffer.
        dataqsiz: u64 = at("dataqsiz", 8),
        /// The buffer.
        buf: u64 = at("buf", 8),
        /// Bytes of a value.
        elemsize: u64 = at("elemsize", 2),
        /// Not zero after `close`.
        closed: u64 = at("closed", 4),
        /// Who waits to receive.
        recvq: u64 = place("recvq"),
        /// Who waits to send.
        sendq: u64 = place("sendq"),
        /// The timer that sends to it. None means before go1.23.
        timer: Option<u64> = at("timer", 8),
    }
    /// `runtime.waitq` (runtime/chan.go): a queue of `sudog`.
    waitq: QueueLayout = "runtime.waitq" {
        /// The first.
        first: u64 = at("first", 8),
        /// The last.
        last: u64 = at("last", 8),
    }
    /// Numbers of the runtime that are no offsets.
    constants: RuntimeConstants = "" {
        /// Bytes that precede the user's pointer in the slot of a small object with pointers above 512 bytes
        /// (runtime/malloc.go). None means before go1.22: there is no header.
        malloc_header_bytes: Option<u64> = constant("runtime.mallocHeaderSize"),
        /// The `kind` of a special that stands for a sampled object (runtime/mheap.go).
        special_kind_profile: u64 = constant("runtime._KindSpecialProfile"),
        /// The `kind` of a special that stands for a finalizer (runtime/mheap.go).
        special_kind_finalizer: u64 = constant("runtime._KindSpecialFinalizer"),
    }
}

impl RuntimeLayout {
    /// Bytes that precede the user's pointer in the slot of a small object with pointers above 512 bytes.
    pub fn malloc_header_bytes(&self) -> u64 {
        self.constants.malloc_header_bytes.unwrap_or_default()
    }
}

/// What to look for in DWARF.
pub(super) fn wanted() -> Wanted<'static> {
    let mut wanted = Wanted::default();
    for (structures, questions) in QUESTIONS {
        for question in *questions {
            let path = match *question {
                Question::Constant { name } => {
                    wanted.constants.insert(name);
                    continue;
                }
                Question::Size => None,
                Question::Offset { path, .. } | Question::Width { path } | Question::Count { path } => Some(path),
            };
            for structure in structures.split('|') {
                let paths = wanted.structures.entry(structure).or_default();
                paths.extend(path.iter().flat_map(|path| path.split('|')));
            }
        }
    }
    wanted
}

/// `None` where this version has no such thing.
fn answer(found: &Found, structures: &'static str, question: Question) -> Result<Option<u64>, LayoutError> {
    let mut of_structures = structures.split('|').filter_map(|name| found.structures.get(name));
    let mut member =
        |path: &str| of_structures.find_map(|structure| path.split('|').find_map(|path| structure.members.get(path)));
    Ok(match question {
        Question::Constant { name } => found.constants.get(name).copied(),
        Question::Size => of_structures.next().map(|structure| structure.size_bytes),
        Question::Count { path } => member(path).and_then(|member| member.elements),
        Question::Width { path } => member(path).and_then(|member| member.size_bytes),
        Question::Offset { path, bytes } => match member(path) {
            None => None,
            // A structure around the number, such as those of package atomic, is as wide as the number.
            Some(member) if bytes.is_none_or(|bytes| member.size_bytes == Some(bytes)) => Some(member.offset_bytes),
            Some(member) => {
                let found_bytes = member.size_bytes.unwrap_or_default();
                let expected_bytes = bytes.unwrap_or_default();
                return Err(LayoutError::Width { structure: structures, field: path, expected_bytes, found_bytes });
            }
        },
    })
}
