//! Hooks that may stay: whether they are on all the time, in windows, or not at all.

/// How a hook is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// On all the time: what it sees is counted in full.
    Continuous,
    /// On in windows: what it sees is a sample.
    Bursts,
    /// Not on. The books, or looks at fixed times, say what they can.
    #[default]
    Off,
}

/// A hook that may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// One hit per collection.
    Cycles,
    /// One hit per large object.
    LargeObjects,
    /// Two hits per goroutine.
    Goroutines,
}

impl Hook {
    /// The share of a target's budget that the hook may take all the time.
    fn continuous_share(self) -> f64 {
        match self {
            // Without it births live and die unseen.
            Self::Cycles => 0.5,
            Self::LargeObjects => 0.1,
            Self::Goroutines => 0.25,
        }
    }

    /// For the user.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cycles => "cycle probe",
            Self::LargeObjects => "hook on large objects",
            Self::Goroutines => "goroutine hooks",
        }
    }
}

/// What was decided of a hook.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HookDecision {
    /// How it is used.
    pub mode: Mode,
    /// Why, for the user.
    pub reason: String,
    /// Hits within a second at which a continuous hook must be ended at once, before the next decision: its rate has jumped.
    pub hits_per_s_max: u64,
}

/// What a hook would cost now, and what may be paid.
#[derive(Clone, Copy, Debug)]
pub(super) struct HookLoad {
    /// Hits per second; `None`: the books do not say.
    pub(super) hits_per_s: Option<f64>,
    pub(super) hit_ns: f64,
    /// The target's budget, ns per second.
    pub(super) budget_ns_per_s: f64,
    /// Whether shedding has come to this hook.
    pub(super) is_shed: bool,
    /// Whether it has exceeded its hits of late.
    pub(super) has_jumped: bool,
}

/// Which mode fits, given the mode of before. Continuous begins at four fifths of where it ends.
pub(super) fn decide(hook: Hook, load: HookLoad, before: Mode) -> HookDecision {
    const BEGIN: f64 = 0.8;
    /// In windows a hook may cost as much again as what the windows are for; they are open for about this share of the time.
    const OPEN_SHARE: f64 = 0.02;
    let name = hook.name();
    let share = hook.continuous_share();
    let most_ns_per_s = share * load.budget_ns_per_s;
    let hits_per_s_max = crate::units::whole(4.0 * most_ns_per_s / load.hit_ns.max(1.0)).max(100);
    let decided = |mode, reason| HookDecision { mode, reason, hits_per_s_max };
    if load.is_shed {
        return decided(Mode::Off, format!("{name} off: shed to keep the budget"));
    }
    let Some(hits_per_s) = load.hits_per_s else {
        if hook == Hook::Cycles && !load.has_jumped {
            return decided(Mode::Continuous, format!("{name} on until it is known how often it is hit"));
        }
        return decided(Mode::Off, format!("{name} off: how often it would be hit is not known"));
    };
    let cost_ns_per_s = hits_per_s * load.hit_ns;
    let limit_ns_per_s = if before == Mode::Continuous { most_ns_per_s } else { BEGIN * most_ns_per_s };
    let percent = 100.0 * cost_ns_per_s / load.budget_ns_per_s.max(1e-9);
    // A few hits a second cost less than can be accounted for.
    if !load.has_jumped && (cost_ns_per_s <= limit_ns_per_s || hits_per_s * load.hit_ns <= 1_000.0) {
        return decided(
            Mode::Continuous,
            format!("{name} on: {hits_per_s:.0} hits/s take {percent:.1} % of the budget"),
        );
    }
    let why = if load.has_jumped {
        format!("its rate has jumped (now {hits_per_s:.0} hits/s)")
    } else {
        format!("{hits_per_s:.0} hits/s would take {percent:.0} % of the budget, more than {:.0} %", 100.0 * share)
    };
    if hook == Hook::LargeObjects && OPEN_SHARE * cost_ns_per_s <= 0.5 * load.budget_ns_per_s {
        return decided(Mode::Bursts, format!("{name} in bursts only: {why}"));
    }
    let instead = match hook {
        Hook::Goroutines => "; the goroutine table is read instead",
        Hook::Cycles | Hook::LargeObjects => "",
    };
    decided(Mode::Off, format!("{name} off: {why}{instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(hits_per_s: f64) -> HookLoad {
        HookLoad {
            hits_per_s: Some(hits_per_s),
            hit_ns: 1_000.0,
            budget_ns_per_s: 1e7,
            is_shed: false,
            has_jumped: false,
        }
    }

    #[test]
    fn a_hook_is_continuous_then_in_bursts_then_off_as_its_rate_rises() {
        let mode = |hits_per_s| decide(Hook::LargeObjects, load(hits_per_s), Mode::Off).mode;
        assert_eq!(mode(0.0), Mode::Continuous);
        assert_eq!(mode(700.0), Mode::Continuous);
        assert_eq!(mode(1_100.0), Mode::Bursts);
        assert_eq!(mode(1e6), Mode::Off);
        assert_eq!(decide(Hook::Cycles, load(1e6), Mode::Off).mode, Mode::Off);
    }

    #[test]
    fn hooks_on_goroutines_are_never_in_bursts_since_the_table_tells_more() {
        let decided = |hits_per_s| decide(Hook::Goroutines, load(hits_per_s), Mode::Off);
        assert_eq!(decided(1_900.0).mode, Mode::Continuous);
        let off = decided(2_600.0);
        assert_eq!(off.mode, Mode::Off);
        assert!(off.reason.contains("the goroutine table is read instead"), "{}", off.reason);
    }

    #[test]
    fn a_rate_between_the_limits_changes_nothing() {
        for before in [Mode::Continuous, Mode::Off] {
            assert_eq!(decide(Hook::Goroutines, load(2_250.0), before).mode, before);
        }
    }

    #[test]
    fn what_is_shed_or_not_known_is_off_and_what_has_jumped_is_not_continuous() {
        assert_eq!(decide(Hook::Goroutines, HookLoad { is_shed: true, ..load(1.0) }, Mode::Off).mode, Mode::Off);
        assert_eq!(decide(Hook::Goroutines, HookLoad { hits_per_s: None, ..load(1.0) }, Mode::Off).mode, Mode::Off);
        let jumped = decide(Hook::Goroutines, HookLoad { has_jumped: true, ..load(1.0) }, Mode::Continuous);
        assert_eq!(jumped.mode, Mode::Off);
        assert!(jumped.reason.contains("jumped"), "{}", jumped.reason);
    }
}
