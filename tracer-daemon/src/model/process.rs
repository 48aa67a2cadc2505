//! The model of one process: takes what was seen, in the order in which it was seen, and says at any time what it means.
//!
//! The only place that keeps anything between two looks. The same observations give the same snapshots.

use std::sync::Arc;
use std::time::Duration;

use super::assess::{Assessment, Assessor};
use super::forecast::Forecast;
use super::goroutines::GoroutineTable;
use super::marked::Reading;
use super::memory::MemoryStatement;
use super::observation::{Moment, Observation};
use super::profile_history::ProfileHistory;
use super::{Evidence, HeapLook, Limit, Profile, Snapshot, account};
use crate::read::Discards;
use crate::read::books::Books;
use crate::units::approximate;

/// Growth is judged over at most this long.
const WINDOW_MAX: Duration = Duration::from_secs(3600);
/// Between two judgements.
const JUDGE_EVERY_S: f64 = 4.0;

/// What is known of the process beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessConstants {
    /// The main module's path; `None`: only the packages named `main` are the user's.
    pub main_module: Option<Arc<str>>,
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
    profile: ProfileHistory,
    goroutines: Option<Arc<GoroutineTable>>,
    memory: Option<Arc<MemoryStatement>>,
    /// The first statement.
    first_memory: Option<(Moment, Arc<MemoryStatement>)>,
    discards: Discards,
    assessor: Assessor,
    assessment: Option<Arc<Assessment>>,
    /// When it was judged last, and how many collections had ended.
    judged: Option<(Moment, u32)>,
}

impl ProcessModel {
    /// Nothing was seen yet.
    pub fn new(constants: ProcessConstants) -> Self {
        Self {
            constants,
            opened: Moment::default(),
            last: Moment::default(),
            books: None,
            profile: ProfileHistory::default(),
            goroutines: None,
            memory: None,
            first_memory: None,
            discards: Discards::default(),
            assessor: Assessor::new(0.0),
            assessment: None,
            judged: None,
        }
    }

    /// One more look.
    pub fn observe(&mut self, at: Moment, observation: Observation) {
        match observation {
            Observation::Opened => {
                self.opened = at;
                if let Some([first, last]) = &mut self.books {
                    first.clone_from(last);
                }
                self.assessor.begin(at.unix_ns);
                (self.assessment, self.judged) = (None, None);
            }
            Observation::Books(books) => {
                self.assessor.observe_books(Reading::new(&books, at.unix_ns));
                match &mut self.books {
                    Some([_, last]) => *last = (at, books),
                    none => *none = Some([(at, books.clone()), (at, books)]),
                }
                if !self.profile.is_there() {
                    self.judge(at);
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
            Observation::Goroutines(table) => self.goroutines = Some(table),
            Observation::Memory(statement) => {
                self.memory = Some(match &self.first_memory {
                    Some((first_at, first)) => {
                        Arc::new(statement.as_ref().clone().since(first, at.seconds_since(*first_at)))
                    }
                    None => Arc::clone(&self.first_memory.insert((at, statement)).1),
                });
            }
            Observation::Discards(discards) => {
                self.discards = discards;
                return;
            }
        }
        self.last = self.last.max(at);
    }

    /// What is known of growth, anew where a collection has ended since it was judged last.
    fn judge(&mut self, at: Moment) {
        let Some([_, (_, books)]) = &self.books else { return };
        let collections = books.collections;
        let is_due = |(judged, known): (Moment, u32)| known != collections && at.seconds_since(judged) >= JUDGE_EVERY_S;
        if !self.judged.is_none_or(is_due) {
            return;
        }
        self.judged = Some((at, collections));
        let window_ns = u64::try_from(WINDOW_MAX.as_nanos()).unwrap_or(u64::MAX);
        self.assessor.forget_before(at.unix_ns.saturating_sub(window_ns));
        let live_bytes = books.pacer.as_ref().map_or(0, |pacer| pacer.heap_marked_bytes);
        self.assessment = Some(Arc::new(self.assessor.report(approximate(live_bytes))));
    }

    /// What is known now; `at`: when that is.
    pub fn snapshot(&self, at: Moment) -> Snapshot {
        let books = self.books.as_ref().map(|[_, (_, last)]| &**last);
        let profile = self.profile.live(books, at);
        let used = [
            (books.is_some(), Evidence::Books),
            (self.goroutines.is_some(), Evidence::GoroutineTable),
            (profile.is_some(), profile.as_ref().map_or(Evidence::Profile, Profile::evidence)),
        ];
        Snapshot {
            window_s: self.window_s(),
            evidence: used.into_iter().filter(|(is_used, _)| *is_used).map(|(_, evidence)| evidence).collect(),
            heap: self.books.as_ref().map(|looks| {
                let [first, last] =
                    looks.each_ref().map(|(at, books)| HeapLook { at_s: at.seconds_since(self.opened), books });
                account(first, last)
            }),
            profile,
            assessment: self.assessment.clone(),
            forecast: self.forecast(books),
            goroutines: self.goroutines.clone(),
            limit: Limit::least(books, self.memory.as_deref()),
            memory: self.memory.clone(),
            discards: self.discards,
            exact: None,
        }
    }

    fn forecast(&self, books: Option<&Books>) -> Option<Forecast> {
        let live_growth = self.assessment.as_ref()?.total.rate().filter(|rate| rate.low > 0.0)?;
        let statement = self.memory.as_deref();
        Forecast::of(Limit::least(books, statement)?, live_growth, books, statement)
    }

    /// Between the beginning of the window and the last look, seconds.
    pub fn window_s(&self) -> f64 {
        self.last.seconds_since(self.opened)
    }
}
