//! The model of one process: takes what was seen, in the order in which it was seen, and says at any time what it means.
//!
//! The only place that keeps anything between two looks. The same observations give the same snapshots.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::assess::{Assessment, Assessor};
use super::birth_evidence::BirthEvidence;
use super::birth_history::BirthHistory;
use super::births::{ClassRate, estimate};
use super::forecast::Forecast;
use super::goroutines::GoroutineTable;
use super::goroutines::growth::{GoroutineGrowth, GoroutinesGrowth};
use super::goroutines::hooks::HookHistory;
use super::hints::Program;
use super::impulses::Impulses;
use super::marked::Reading;
use super::memory::MemoryStatement;
use super::memory::growth::{MemoryGrowth, MemoryGrowthReport, NativeGrowth};
use super::observation::{Moment, Observation};
use super::preferences::{ClassGrowth, Preferences};
use super::profile_history::ProfileHistory;
use super::series::BookSeries;
use super::{Births, Evidence, HeapLook, Limit, Profile, Snapshot, account};
use crate::read::Discards;
use crate::read::books::Books;
use crate::units::approximate;

/// Growth is judged over at most this long.
const WINDOW_MAX: Duration = Duration::from_secs(900);
/// The heap takes addresses in steps of this size (`pallocChunkBytes`, runtime/mpagealloc.go).
const HEAP_STEP_BYTES: u64 = 4 << 20;
/// A heap below this says nothing of how large it was before, bytes.
const LARGER_MIN_BYTES: u64 = 32 << 20;
/// Growth of the lines of the memory statement, and of goroutines, is judged over so long; who is accused is after two of them.
const PARTS_WINDOW_S: f64 = 45.0;
/// And besides over so long: what is slow is above chance only then.
const LONG_WINDOW_S: f64 = 600.0;
/// Looks so far apart are enough for that.
const LONG_PACE_S: f64 = 20.0;
/// A profile that was not read for so long is none any more; then the books are judged without it.
const PROFILE_STALE_S: f64 = 150.0;
/// Births of which nothing was told for so long are no evidence any more.
const BIRTHS_STALE_S: f64 = 150.0;
/// Between two judgements, at least.
const JUDGE_EVERY_S: f64 = 4.0;
/// And so much of the window, beyond which news is little.
const JUDGE_EVERY_SHARE: f64 = 1.0 / 60.0;

/// What is known of the process beforehand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessConstants {
    /// The main module's path; `None`: only the packages named `main` are the user's.
    pub main_module: Option<Arc<str>>,
    /// Whether the binary links C code.
    pub cgo: bool,
    /// 22 of go1.22; `None`: not known.
    pub go_minor: Option<u32>,
    /// When the process began, ns since 1970; `None`: not known.
    pub began_unix_ns: Option<u64>,
    /// From this age on it is taken to be warm, so that what grows may be said to leak, seconds: caches have filled, and what
    /// is done every few minutes was done.
    pub warm_after_s: f64,
}

impl ProcessConstants {
    /// What hints depend on.
    pub fn program(&self) -> Program<'_> {
        Program { go_minor: self.go_minor, main_module: self.main_module.as_deref(), cgo: self.cgo }
    }
}

/// What was seen of one process.
#[derive(Debug)]
pub struct ProcessModel {
    constants: ProcessConstants,
    opened: Moment,
    /// Of the last look at anything.
    last: Moment,
    /// The books when the window began, and at the last look.
    books: Option<[(Moment, Box<Books>); 2]>,
    series: BookSeries,
    profile: ProfileHistory,
    births: BirthHistory,
    births_report: Option<Arc<Births>>,
    births_estimated: Option<Moment>,
    impulses: Arc<Impulses>,
    goroutines: Option<Arc<GoroutineTable>>,
    goroutine_hooks: HookHistory,
    memory: Option<Arc<MemoryStatement>>,
    memory_growth: MemoryGrowth,
    long_memory_growth: MemoryGrowth,
    long_memory_looked: Option<Moment>,
    long_native: Option<NativeGrowth>,
    memory_report: Option<Arc<MemoryGrowthReport>>,
    goroutine_growth: GoroutineGrowth,
    long_goroutine_growth: GoroutineGrowth,
    long_goroutine_looked: Option<Moment>,
    long_goroutine_report: Option<GoroutinesGrowth>,
    goroutine_report: Option<Arc<GoroutinesGrowth>>,
    discards: Discards,
    assessor: Assessor,
    assessment: Option<Arc<Assessment>>,
    /// When it was judged last, and how many collections had ended.
    judged: Option<(Moment, u32)>,
    /// Most bytes in spans with objects at any look.
    in_use_max_bytes: u64,
}

impl ProcessModel {
    /// Nothing was seen yet.
    pub fn new(constants: ProcessConstants) -> Self {
        let mut assessor = Assessor::new(0.0);
        if let Some(began_unix_ns) = constants.began_unix_ns {
            assessor.process_began(began_unix_ns);
        }
        assessor.warm_after(constants.warm_after_s);
        Self {
            opened: Moment::default(),
            last: Moment::default(),
            books: None,
            series: BookSeries::default(),
            profile: ProfileHistory::default(),
            births: BirthHistory::default(),
            births_report: None,
            births_estimated: None,
            impulses: Arc::default(),
            goroutines: None,
            goroutine_hooks: HookHistory::default(),
            memory: None,
            memory_growth: MemoryGrowth::new(PARTS_WINDOW_S, constants.cgo),
            long_memory_growth: MemoryGrowth::new(LONG_WINDOW_S, constants.cgo),
            long_memory_looked: None,
            long_native: None,
            memory_report: None,
            goroutine_growth: GoroutineGrowth::new(PARTS_WINDOW_S),
            long_goroutine_growth: GoroutineGrowth::new(LONG_WINDOW_S),
            long_goroutine_looked: None,
            long_goroutine_report: None,
            goroutine_report: None,
            discards: Discards::default(),
            assessor,
            assessment: None,
            judged: None,
            in_use_max_bytes: 0,
            constants,
        }
    }

    /// What was known beforehand.
    pub fn constants(&self) -> &ProcessConstants {
        &self.constants
    }

    /// One more look.
    pub fn observe(&mut self, at: Moment, observation: Observation) {
        match observation {
            Observation::Opened => {
                self.opened = at;
                if let Some([first, last]) = &mut self.books {
                    first.clone_from(last);
                    self.births.opened(last.0, &last.1);
                }
                self.goroutine_hooks.opened();
                Arc::make_mut(&mut self.impulses).opened();
                self.assessor.begin(at.unix_ns);
                (self.assessment, self.judged) = (None, None);
            }
            Observation::Books(books) => {
                // Without what was marked a collection cannot be placed between two readings.
                if books.pacer.is_ok() {
                    self.assessor.observe_books(Reading::new(&books, at.unix_ns));
                }
                self.births.observe_books(at, &books);
                self.series.observe(at, &books);
                self.in_use_max_bytes = self.in_use_max_bytes.max(books.heap_in_use_bytes);
                self.assessor.was_larger(self.was_larger(&books));
                match &mut self.books {
                    Some([_, last]) => *last = (at, books),
                    none => *none = Some([(at, books.clone()), (at, books)]),
                }
                if self.profile.age_s(at).is_none_or(|age_s| age_s > PROFILE_STALE_S) {
                    self.judge(at);
                }
                // A short look is over before it is judged a second time.
                let window_s = at.seconds_since(self.opened);
                let is_old = |estimated| at.seconds_since(estimated) > JUDGE_EVERY_SHARE * window_s;
                if self.births_estimated.is_some_and(is_old) {
                    self.estimate_births(at);
                }
            }
            Observation::Profile(look) => {
                self.profile.observe(at, look, &self.constants);
                let books = self.books.as_ref().map(|[_, (_, last)]| &**last);
                if let Some(reading) = self.profile.reading(books) {
                    self.assessor.observe_profile(reading);
                }
                self.judge(at);
            }
            Observation::Births(look) => {
                self.births.observe(at, &look, &self.constants);
                if let Some([_, (read, books)]) = &self.books {
                    self.births.observe_books(*read, books);
                }
                // Else it comes with the books; the first is not waited for.
                if self.births_report.is_none() {
                    self.estimate_births(at);
                }
            }
            Observation::Impulses(look) => {
                let main_module = self.constants.main_module.as_deref();
                Arc::make_mut(&mut self.impulses).observe(at, self.opened, &look, main_module);
            }
            Observation::Goroutines(table) => {
                self.goroutine_growth.observe(at.at_ns, &table);
                if is_due(&mut self.long_goroutine_looked, at) {
                    self.long_goroutine_growth.observe(at.at_ns, &table);
                    self.long_goroutine_report = Some(self.long_goroutine_growth.report());
                }
                let report = self.goroutine_growth.report();
                self.goroutine_report = Some(Arc::new(match &self.long_goroutine_report {
                    Some(long) => report.or_worse(long),
                    None => report,
                }));
                self.goroutines = Some(table);
            }
            Observation::GoroutineHooks(look) => {
                self.goroutine_hooks.observe(&look, self.constants.main_module.as_deref());
            }
            Observation::Memory(statement) => {
                self.memory_growth.observe(at.at_ns, &statement);
                let mut report = self.memory_growth.report();
                if is_due(&mut self.long_memory_looked, at) {
                    self.long_memory_growth.observe(at.at_ns, &statement);
                    self.long_native = Some(self.long_memory_growth.report().native);
                }
                if let Some(long) = self.long_native.as_ref().filter(|long| long.is_worse_than(&report.native)) {
                    report.native = long.clone();
                }
                self.memory_report = Some(Arc::new(report));
                self.memory = Some(Arc::new(self.memory_growth.annotated(statement.as_ref().clone())));
            }
            Observation::Discards(discards) => {
                self.discards = discards;
                return;
            }
        }
        self.last = self.last.max(at);
    }

    /// Whether the heap had more objects before we looked: addresses that it ever took it keeps.
    fn was_larger(&self, books: &Books) -> bool {
        let ever_bytes = books.heap_sys_bytes().saturating_sub(HEAP_STEP_BYTES);
        ever_bytes >= LARGER_MIN_BYTES && self.in_use_max_bytes < ever_bytes / 10 * 9
    }

    /// What is known of growth, anew where a collection has ended since it was judged last.
    fn judge(&mut self, at: Moment) {
        let Some([_, (_, books)]) = &self.books else { return };
        let (collections, live_bytes) = (books.collections, live_bytes(books));
        let window_s = at.seconds_since(self.opened).min(WINDOW_MAX.as_secs_f64());
        let every_s = JUDGE_EVERY_S.max(JUDGE_EVERY_SHARE * window_s);
        let is_due = |(judged, known): (Moment, u32)| known != collections && at.seconds_since(judged) >= every_s;
        if !self.judged.is_none_or(is_due) {
            return;
        }
        self.judged = Some((at, collections));
        self.estimate_births(at);
        let window_ns = u64::try_from(WINDOW_MAX.as_nanos()).unwrap_or(u64::MAX);
        self.assessor.forget_before(at.unix_ns.saturating_sub(window_ns));
        self.assessment = Some(Arc::new(self.assessor.report(live_bytes)));
    }

    /// What the size classes allocate and by how much they grow beyond chance, as of the last judgement.
    fn class_growth(&self) -> Vec<ClassGrowth> {
        let (Some(assessment), Some([_, (read, books)])) = (&self.assessment, &self.books) else { return Vec::new() };
        let grows =
            |size_bytes| assessment.classes.iter().find(|class| class.size_bytes == Some(size_bytes))?.trend.rising();
        let rates = self.births.rates(*read, books).into_iter();
        let growth = rates.filter_map(|ClassRate { size_bytes, bytes_per_s }| {
            let size_bytes = size_bytes?;
            let grows_bytes_per_s = grows(size_bytes).map_or(0.0, |rate| rate.value);
            Some(ClassGrowth { size_bytes, allocates_bytes_per_s: bytes_per_s, grows_bytes_per_s })
        });
        growth.collect()
    }

    /// Of which size classes more births should be caught.
    pub fn preferences(&self) -> Preferences {
        Preferences::of(&self.class_growth())
    }

    /// What births say by now. There may be many, so they are asked when it is judged, and where that is long ago for the window.
    fn estimate_births(&mut self, at: Moment) {
        self.births_estimated = Some(at);
        let is_stale = self.births.age_s(at).is_none_or(|age_s| age_s > BIRTHS_STALE_S);
        let books = self.books.as_ref().map(|[_, (read, last)]| (*read, &**last));
        let Some(reading) = self.births.reading(books).filter(|_| !is_stale) else {
            self.births_report = None;
            self.assessor.forget_births();
            return;
        };
        let estimates = estimate(&reading);
        let report = self.births.births(&estimates, &reading, self.constants.program());
        self.births_report = Some(Arc::new(report));
        self.assessor.observe_births(BirthEvidence {
            caught: reading.caught(),
            all_followed: self.births.counts().is_some_and(|counts| counts.all_followed()),
            window_s: reading.window_s,
            seen_s: self.births.seen_s(at),
            sites: estimates.sites,
        });
    }

    /// What is known now; `at`: when that is.
    pub fn snapshot(&self, at: Moment) -> Snapshot {
        let books = self.books.as_ref().map(|[_, (_, last)]| &**last);
        let profile = self.profile.live(books, at);
        let looked = self.births_report.as_ref().is_some_and(|births| births.counts.cycles_looked > 0);
        let goroutine_hooks = self.goroutine_hooks.report();
        let used = [
            (books.is_some(), Evidence::Books),
            (self.goroutines.is_some(), Evidence::GoroutineTable),
            (goroutine_hooks.is_some(), Evidence::GoroutineHooks),
            (profile.is_some(), profile.as_ref().map_or(Evidence::Profile, Profile::evidence)),
            (self.births_report.is_some(), Evidence::Bursts),
            (looked, Evidence::Marks),
        ];
        Snapshot {
            window_s: self.window_s(),
            evidence: used.into_iter().filter(|(is_used, _)| *is_used).map(|(_, evidence)| evidence).collect(),
            heap: self.books.as_ref().map(|looks| {
                let [first, last] =
                    looks.each_ref().map(|(at, books)| HeapLook { at_s: at.seconds_since(self.opened), books });
                account(first, last)
            }),
            series: self.series.series(self.opened).map(Arc::new),
            profile,
            births: self.births_report.clone(),
            impulses: self.births.counts().is_some().then(|| Arc::clone(&self.impulses)),
            birth_counts: self.births.counts(),
            assessment: self.assessment.clone(),
            forecast: self.forecast(books),
            goroutines: self.goroutines.clone(),
            goroutine_hooks,
            goroutine_growth: self.goroutine_report.clone(),
            memory_growth: self.memory_report.clone(),
            limit: Limit::least(books, self.memory.as_deref()),
            memory: self.memory.clone(),
            discards: self.discards,
            exact: None,
        }
    }

    fn forecast(&self, books: Option<&Books>) -> Option<Forecast> {
        let assessment = self.assessment.as_deref();
        let live_growth = assessment.and_then(|assessment| Assessor::rising(assessment, live_bytes(books?)));
        let statement = self.memory.as_deref();
        Forecast::of(Limit::least(books, statement)?, live_growth.unwrap_or_default(), books, statement)
    }

    /// Between the beginning of the window and the last look, seconds.
    pub fn window_s(&self) -> f64 {
        self.last.seconds_since(self.opened)
    }
}

/// Whether the long windows are to have this look; it is then taken to be had.
fn is_due(looked: &mut Option<Moment>, at: Moment) -> bool {
    let is_due = looked.is_none_or(|looked| at.seconds_since(looked) >= LONG_PACE_S);
    if is_due {
        *looked = Some(at);
    }
    is_due
}

/// What the last collection found alive. 0: not known.
fn live_bytes(books: &Books) -> f64 {
    approximate(books.pacer.as_ref().map_or(0, |pacer| pacer.heap_marked_bytes))
}
