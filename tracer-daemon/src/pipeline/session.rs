//! One target from discovery to snapshots, by whatever evidence was chosen for it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{Bursts, Killswitch, StartError, Subject, books_session::BooksSession, exact_session::ExactSession};
use crate::{
    attach::Limits,
    cli::EvidenceChoice,
    discover::Target,
    export::{CostFacts, Refusal, untrusted},
    inspect::cache::FactsCache,
    model::{
        Snapshot,
        observation::{Moment, Observation},
        process::ProcessConstants,
    },
};

/// What to look with.
#[derive(Clone, Debug)]
pub struct Means {
    /// The evidence that was asked for.
    pub evidence: EvidenceChoice,
    /// Where it is there, no probe is put in place.
    pub killswitch: Killswitch,
    /// How much the kernel side may hold.
    pub limits: Limits,
    /// Turn on the sampler of a program where it is off, and note that in this folder. `None`: write nothing to any process.
    pub adopt: Option<PathBuf>,
    /// From which age on a program is taken to be warm, so that what grows may be said to leak. `None`: it is warm already.
    pub warm_after: Option<Duration>,
    /// Windows in which allocations are hooked, within a budget. `None`: no probes.
    pub bursts: Option<Arc<Bursts>>,
    /// How often the books are looked at. A look takes about 0.1 ms of our own time.
    pub books_every: Duration,
    /// Whether what the model is told is kept for [`Session::take_told`].
    pub is_recorded: bool,
}

impl Means {
    /// Often enough to see most collections by themselves.
    pub const BOOKS_OFTEN: Duration = Duration::from_millis(100);
}

/// A target that is looked at.
#[derive(Debug)]
pub enum Session {
    /// With a hook on every allocation.
    Exact(Box<ExactSession>),
    /// By reading its memory.
    Books(Box<BooksSession>),
}

impl Session {
    /// Inspects the target and prepares what was asked for; where that is refused, what can be had without probes. Nothing
    /// counts before [`Self::open`].
    ///
    /// # Errors
    /// Where nothing can be had.
    pub fn start(target: &Target, means: &Means, cache: &FactsCache) -> Result<Self, StartError> {
        let subject = Subject::open(target, cache)?;
        match means.evidence {
            EvidenceChoice::Exact if means.killswitch.is_on() => {
                let refused = vec![means.killswitch.refusal()];
                let books = BooksSession::start(subject, &target.exe, means, refused).map_err(|failed| failed.1)?;
                Ok(Self::Books(Box::new(books)))
            }
            EvidenceChoice::Exact => match ExactSession::start(subject, &target.exe, means.limits) {
                Ok(session) => Ok(Self::Exact(Box::new(session))),
                Err(failed) => {
                    let (subject, error) = *failed;
                    if !error.leaves_books() {
                        return Err(error);
                    }
                    let refusal = Refusal::new(error.reason(), error.full_text());
                    // Where the books cannot be read either, what was asked for decides what is said.
                    let books =
                        BooksSession::start(subject, &target.exe, means, vec![refusal]).map_err(|_unread| error)?;
                    Ok(Self::Books(Box::new(books)))
                }
            },
            EvidenceChoice::Auto | EvidenceChoice::Books | EvidenceChoice::Bursts => {
                let books = BooksSession::start(subject, &target.exe, means, Vec::new()).map_err(|failed| failed.1)?;
                Ok(Self::Books(Box::new(books)))
            }
        }
    }

    /// Tells the operator what is done, and what is odd about it.
    pub fn announce(&self) {
        match self {
            Self::Exact(session) => session.announce(),
            Self::Books(session) => {
                let subject = session.subject();
                let (pid, exe, go) = (subject.identity.pid, &subject.exe, &subject.facts.go_version.text);
                let how = if session.has_bursts() { "with probes in short windows" } else { "without probes" };
                tracing::info!(pid, exe, go, "reading its memory, {how}");
                subject.announce();
            }
        }
        let pid = self.subject().identity.pid;
        for refusal in self.refused() {
            tracing::warn!(pid, "not measured: {} ({})", untrusted::name(&refusal.text), refusal.id);
        }
    }

    /// Why it must end: its probes stay in place all the time, and there are to be none. Windows end by themselves (`bursts/`).
    pub fn must_end(&self, killswitch: &Killswitch) -> Option<Refusal> {
        (matches!(self, Self::Exact(_)) && killswitch.is_on()).then(|| killswitch.refusal())
    }

    /// The window begins.
    pub fn open(&mut self) -> Result<(), StartError> {
        match self {
            Self::Exact(session) => session.open(),
            Self::Books(session) => {
                session.open();
                Ok(())
            }
        }
    }

    /// To be called every 50 ms or so, without probes less often: takes what has come, looks where it is time to.
    pub fn step(&mut self) {
        match self {
            Self::Exact(session) => session.step(),
            Self::Books(session) => session.step(),
        }
    }

    /// The window ends: nothing counts any more.
    pub fn close(&mut self) -> Result<(), StartError> {
        match self {
            Self::Exact(session) => session.close(),
            Self::Books(session) => {
                session.close();
                Ok(())
            }
        }
    }

    /// Now, by the clocks of the session.
    pub fn moment(&self) -> Moment {
        match self {
            // Its counts have no other moment than the one at which they are read.
            Self::Exact(_) => Moment::default(),
            Self::Books(session) => session.moment(),
        }
    }

    /// What is known; `at`: when that is, which is now.
    pub fn snapshot(&mut self, at: Moment) -> Result<Snapshot, StartError> {
        match self {
            Self::Exact(session) => Ok(session.snapshot()?.into()),
            Self::Books(session) => Ok(session.snapshot(at)),
        }
    }

    /// What the model was told since this was asked last, where [`Means::is_recorded`].
    pub fn take_told(&mut self) -> Vec<(Moment, Observation)> {
        match self {
            Self::Exact(_) => Vec::new(),
            Self::Books(session) => session.take_told(),
        }
    }

    /// Tells the operator what could not be read or named; nothing where all is well.
    pub fn warn_of_gaps(&self) {
        if let Self::Exact(session) = self {
            session.warn_of_gaps();
        }
    }

    /// Leaves the probes in place until this process exits, which is how a living target must be left; without probes there is
    /// nothing to leave.
    pub fn leave(self) {
        if let Self::Exact(session) = self {
            session.leave();
        }
    }

    /// Takes the next probe away by a system call; about 100 ms each. False: none is left.
    pub fn detach_next(&mut self) -> bool {
        match self {
            Self::Exact(session) => session.detach_next(),
            Self::Books(_) => false,
        }
    }

    /// How many probes are in place.
    pub fn probes(&self) -> usize {
        match self {
            Self::Exact(session) => session.probes(),
            Self::Books(_) => 0,
        }
    }

    /// What the model knew beforehand. `None`: nothing is judged.
    pub fn constants(&self) -> Option<&ProcessConstants> {
        match self {
            Self::Exact(_) => None,
            Self::Books(session) => Some(session.constants()),
        }
    }

    /// The process that is followed.
    pub fn subject(&self) -> &Subject {
        match self {
            Self::Exact(session) => session.subject(),
            Self::Books(session) => session.subject(),
        }
    }

    /// What is not measured, and why.
    pub fn refused(&self) -> Vec<Refusal> {
        match self {
            Self::Exact(session) => session.refused().to_vec(),
            Self::Books(session) => session.refused(),
        }
    }

    /// What looking has cost the target so far. `snapshot`: of now.
    pub fn cost(&self, snapshot: &Snapshot) -> CostFacts {
        match self {
            Self::Exact(_) => CostFacts::counted_in(snapshot),
            Self::Books(session) => session.cost(),
        }
    }

    /// For how long some part that could be read at first could not be.
    pub fn blind_for(&self) -> Duration {
        match self {
            Self::Exact(_) => Duration::ZERO,
            Self::Books(session) => session.blind_for(),
        }
    }

    /// How long was looked.
    pub fn window(&self) -> Duration {
        match self {
            Self::Exact(session) => session.window(),
            Self::Books(session) => session.window(),
        }
    }
}
