//! The size of the heap at which the next collection is to end, by the rules of runtime/mgcpacer.go.
//!
//! The runtime computes it whenever it is asked for and does not store it: `heapGoalInternal` and `memoryLimitHeapGoal`, the same
//! in go1.21 to go1.27; go1.19 and go1.20 leave a fixed headroom below the memory limit.

/// Share of the goal that is left free below the memory limit, percent (`memoryLimitHeapGoalHeadroomPercent`, go1.21).
const HEADROOM_PERCENT: u64 = 3;
/// Least that is left free, bytes; before go1.21 all that is (`memoryLimitMinHeapGoalHeadroom`).
const HEADROOM_MIN_BYTES: u64 = 1 << 20;
/// The goal is at least this far above the size at which the collection began, bytes (`minRunway`).
const RUNWAY_MIN_BYTES: u64 = 64 << 10;
/// `triggered` between collections.
const NOT_TRIGGERED: u64 = u64::MAX;

/// What the runtime computes it from, bytes; names as in `gcControllerState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GoalInputs {
    /// The minor version of Go.
    pub(super) minor: u32,
    pub(super) gc_percent_heap_goal: u64,
    pub(super) memory_limit: u64,
    pub(super) heap_marked: u64,
    pub(super) heap_free: u64,
    pub(super) total_alloc: u64,
    pub(super) total_free: u64,
    pub(super) mapped_ready: u64,
    pub(super) sweep_min_trigger: u64,
    pub(super) triggered: u64,
}

impl GoalInputs {
    /// `heapGoal`: what `MemStats.NextGC` says.
    pub(super) fn goal(&self) -> u64 {
        let goal = self.gc_percent_heap_goal;
        let by_limit = self.by_limit();
        if by_limit < goal {
            return by_limit;
        }
        let goal = goal.max(self.sweep_min_trigger);
        match self.triggered {
            NOT_TRIGGERED => goal,
            triggered => goal.max(triggered.saturating_add(RUNWAY_MIN_BYTES)),
        }
    }

    /// `memoryLimitHeapGoal`. Numbers that are read one after the other may contradict each other, so nothing here wraps.
    pub(super) fn by_limit(&self) -> u64 {
        let allocated = self.total_alloc.saturating_sub(self.total_free);
        let not_heap = self.mapped_ready.saturating_sub(self.heap_free.saturating_add(allocated));
        let over = self.mapped_ready.saturating_sub(self.memory_limit);
        let taken = not_heap.saturating_add(over);
        if taken >= self.memory_limit {
            return self.heap_marked;
        }
        let goal = self.memory_limit - taken;
        let share = if self.minor >= 21 { goal / 100 * HEADROOM_PERCENT } else { 0 };
        let headroom = share.max(HEADROOM_MIN_BYTES);
        goal.saturating_sub(headroom).max(headroom).max(self.heap_marked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn inputs() -> GoalInputs {
        GoalInputs {
            minor: 26,
            gc_percent_heap_goal: 200 * MIB,
            memory_limit: i64::MAX.cast_unsigned(),
            heap_marked: 100 * MIB,
            heap_free: 10 * MIB,
            total_alloc: 500 * MIB,
            total_free: 350 * MIB,
            mapped_ready: 180 * MIB,
            sweep_min_trigger: 0,
            triggered: NOT_TRIGGERED,
        }
    }

    #[test]
    fn without_a_limit_the_goal_is_that_of_gogc_moved_forward_by_sweeping_and_the_trigger() {
        assert_eq!(inputs().goal(), 200 * MIB);
        assert_eq!(GoalInputs { sweep_min_trigger: 201 * MIB, ..inputs() }.goal(), 201 * MIB);
        assert_eq!(GoalInputs { triggered: 200 * MIB, ..inputs() }.goal(), 200 * MIB + RUNWAY_MIN_BYTES);
        assert_eq!(GoalInputs { gc_percent_heap_goal: u64::MAX, ..inputs() }.goal(), inputs().by_limit());
    }

    #[test]
    fn a_limit_leaves_what_is_not_heap_and_a_headroom() {
        // 20 MiB are not heap: 180 mapped less 10 free and 150 allocated.
        let limited = GoalInputs { memory_limit: 200 * MIB, ..inputs() };
        assert_eq!(limited.goal(), 180 * MIB - 180 * MIB / 100 * 3);
        assert_eq!(GoalInputs { minor: 20, ..limited }.goal(), 179 * MIB);
        // 30 MiB over the limit: that much less.
        let over = GoalInputs { memory_limit: 150 * MIB, ..inputs() };
        assert_eq!(over.goal(), 100 * MIB, "never below what is alive");
        assert_eq!(GoalInputs { heap_marked: MIB, ..over }.by_limit(), 100 * MIB - MIB * 3);
        // No room at all.
        assert_eq!(GoalInputs { memory_limit: MIB, ..inputs() }.by_limit(), 100 * MIB);
        // A small limit: half of it, at least one headroom.
        let small = GoalInputs { memory_limit: 21 * MIB, mapped_ready: 20 * MIB, heap_marked: 0, ..inputs() };
        assert_eq!(GoalInputs { heap_free: 0, total_alloc: 0, total_free: 0, ..small }.by_limit(), MIB);
    }

    #[test]
    fn contradicting_numbers_do_not_wrap() {
        let odd = GoalInputs { total_alloc: 0, total_free: u64::MAX, mapped_ready: u64::MAX, ..inputs() };
        assert_eq!(odd.by_limit(), odd.heap_marked);
        let odd = GoalInputs { heap_free: u64::MAX, total_alloc: u64::MAX, total_free: 0, memory_limit: 0, ..inputs() };
        assert_eq!(odd.by_limit(), odd.heap_marked);
    }
}
