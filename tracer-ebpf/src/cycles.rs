//! Collections: marking is over, the world stopped.

use aya_ebpf::{bindings::BPF_RB_FORCE_WAKEUP, helpers::bpf_ktime_get_ns, macros::uprobe, programs::ProbeContext};
use tracer_common::bursts::{BurstTotal, CycleRecord, RecordKind};

use crate::{
    births::{add_burst_total, add_time_since, reserve},
    target::{begins, heap_sweepgen},
};

/// At the beginning of `runtime.gcSweep`. Wakes the daemon up, which looks at the marks.
#[uprobe]
pub(crate) fn cycle_marked(context: ProbeContext) -> u32 {
    if !begins(&context) {
        return 0;
    }
    // SAFETY: no arguments.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    add_burst_total(BurstTotal::Cycles, 1);
    // A collection that finds no room is missed; the daemon sees that by its number.
    if let Some(mut entry) = reserve::<CycleRecord>() {
        entry.write(CycleRecord { kind: RecordKind::Cycle as u32, sweepgen: heap_sweepgen(), time_ns });
        entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
    }
    add_time_since(BurstTotal::CyclesNs, time_ns);
    0
}
