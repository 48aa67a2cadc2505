//! A hook of one target that stays, on collections, goroutines or large objects: on while the governor lets it be, ended at once where its
//! rate jumps.
//!
//! Hits of the latter two count only until a time that is put off with each heartbeat, so that nothing is
//! counted where this process is stopped; and only from when all points are on, so that begins and ends are counted from one moment.

use rustix::event::{PollFd, PollFlags};

use super::{
    hosted::{Growing, Retry},
    scheduler::ended,
    target::BurstTarget,
};
use crate::attach::{
    Holder, Holders, News,
    governor::{Hook, HookDecision, Mode},
};
use crate::pipeline::error::with_causes;

/// Hits count so long without another heartbeat: a little longer than the link is held without one.
const COUNT_NS: u64 = 1_500_000_000;
/// Before a link that could not be made is tried again, the first time.
const RETRY_NS: u64 = 10_000_000_000;
/// Before one is made again that has ended: by itself where we were stopped, or since its process was killed.
const AGAIN_NS: u64 = 500_000_000;
/// After hits have jumped above their cap. The governor may wait longer.
const JUMPED_NS: u64 = 10_000_000_000;
/// So long after the beginning it is no news that they are off: rates are not known yet.
const GRACE_NS: u64 = 5_000_000_000;
/// Hits are held against their cap over so long.
const CAP_OVER_NS: u64 = 1_000_000_000;

/// What is on of it.
#[derive(Debug)]
pub(super) struct StayingHook {
    hook: Hook,
    link: Option<Holder>,
    /// Whether hits count.
    counts: bool,
    /// When the link is made again.
    retry: Retry,
    /// Since when hits are held against the cap, and how many there were then.
    second: (u64, u64),
    /// How many hits the governor knows of.
    told: Growing,
    failure: Option<String>,
    /// When it was looked first whether they shall be on.
    asked_ns: Option<u64>,
}

impl StayingHook {
    /// It is not on yet.
    pub(super) fn new(hook: Hook) -> Self {
        Self {
            hook,
            link: None,
            counts: false,
            retry: Retry::default(),
            second: (0, 0),
            told: Growing::default(),
            failure: None,
            asked_ns: None,
        }
    }

    /// Whether hits count now.
    pub(super) fn counts(&self) -> bool {
        self.counts
    }

    /// To be waited for, too.
    pub(super) fn link(&self) -> Option<PollFd<'_>> {
        self.link.as_ref().map(|link| PollFd::from_borrowed_fd(link.fd(), PollFlags::IN))
    }

    /// Takes what the link has to tell.
    pub(super) fn hear(&mut self, now_ns: u64, target: &mut BurstTarget) {
        let Some(link) = &mut self.link else { return };
        let (mut is_on, mut failure) = (false, None);
        let is_over = ended(link, |news| match news {
            News::Opened { .. } => is_on = true,
            News::Failed(error) => failure = Some(with_causes(&error)),
            News::Closed { .. } | News::Gone => {}
        });
        if is_on {
            self.failure = None;
            self.second = (now_ns, target.hook_hits(self.hook));
            self.count_until(now_ns, now_ns.saturating_add(COUNT_NS), target);
        }
        if is_over {
            self.count_until(now_ns, 0, target);
            self.link = None;
            self.retry.ended(now_ns, if failure.is_some() { RETRY_NS } else { AGAIN_NS });
            self.failure = Some(failure.unwrap_or_else(|| String::from("the process that held the probes ended")));
        }
    }

    /// Begins, keeps or ends. A link that was told to end is given back. True: the rate has jumped, and the governor is to be told at once.
    pub(super) fn keep(
        &mut self,
        now_ns: u64,
        decision: &HookDecision,
        beats: bool,
        target: &mut BurstTarget,
        holders: &mut Holders,
    ) -> (Option<Holder>, bool) {
        self.asked_ns.get_or_insert(now_ns);
        if decision.mode != Mode::Continuous {
            return (self.end(now_ns, target), false);
        }
        if self.link.is_none() {
            if self.retry.is_due(now_ns) {
                self.begin(now_ns, target, holders);
            }
            return (None, false);
        }
        if !beats {
            return (None, false);
        }
        let hits = target.hook_hits(self.hook);
        if hits.saturating_sub(self.second.1) >= decision.hits_per_s_max {
            self.retry.not_before(now_ns.saturating_add(JUMPED_NS));
            return (self.end(now_ns, target), true);
        }
        if now_ns.saturating_sub(self.second.0) >= CAP_OVER_NS {
            self.second = (now_ns, hits);
        }
        if let Some(link) = &self.link {
            link.beat();
        }
        if self.counts {
            self.count_until(now_ns, now_ns.saturating_add(COUNT_NS), target);
        }
        (None, false)
    }

    fn begin(&mut self, now_ns: u64, target: &BurstTarget, holders: &mut Holders) {
        self.retry.made(now_ns);
        match target.open_hook(self.hook, holders) {
            Some(Ok(link)) => self.link = Some(link),
            Some(Err(error)) => {
                self.failure = Some(with_causes(&error));
                self.retry.ended(now_ns, RETRY_NS);
            }
            None => self.retry.not_before(u64::MAX),
        }
        self.second = (now_ns, target.hook_hits(self.hook));
    }

    /// No hit counts any more. The link, told to end.
    pub(super) fn end(&mut self, now_ns: u64, target: &mut BurstTarget) -> Option<Holder> {
        let link = self.link.take()?;
        self.count_until(now_ns, 0, target);
        link.close();
        Some(link)
    }

    fn count_until(&mut self, now_ns: u64, until_ns: u64, target: &mut BurstTarget) {
        if until_ns == 0 && !self.counts {
            return;
        }
        match target.count_until(self.hook, now_ns, until_ns) {
            Ok(()) => self.counts = until_ns > 0,
            Err(error) => self.failure = Some(with_causes(&error)),
        }
    }

    /// Hits since this was asked last: those of the second in which they jumped, too.
    pub(super) fn take_hits(&mut self, target: &BurstTarget) -> u64 {
        self.told.take(target.hook_hits(self.hook))
    }

    /// Why they do not count. `None`: they do, or are about to.
    pub(super) fn why_off(&self, now_ns: u64, decision: Option<&HookDecision>, target: &BurstTarget) -> Option<String> {
        if self.counts {
            return None;
        }
        if let Err(refusal) = &target.goroutines
            && self.hook == Hook::Goroutines
        {
            return Some(format!("no goroutine hooks: {refusal}"));
        }
        match (decision, &self.failure) {
            _ if self.asked_ns.is_none_or(|asked_ns| now_ns.saturating_sub(asked_ns) < GRACE_NS) => None,
            (Some(decision), _) if decision.mode != Mode::Continuous => Some(decision.reason.clone()),
            (_, Some(failure)) => Some(format!("{} off: {failure}", self.hook.name())),
            (_, None) => None,
        }
    }
}
