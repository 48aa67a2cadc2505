"""One row of the cost bench: a bcc program on one instruction of one process.

Usage: bcc_row.py count|stack|record BINARY HEX_ADDRESS PID
Ends on SIGINT with one line: the hits it counted and the records it lost.
"""

import signal
import sys
import time

from bcc import BPF

PROGRAMS = {
    "count": r"""
BPF_PERCPU_ARRAY(hits, u64, 1);
int hit(void *ctx) {
    int zero = 0;
    u64 *count = hits.lookup(&zero);
    if (count) (*count)++;
    return 0;
}
""",
    "stack": r"""
BPF_STACK_TRACE(stacks, 16384);
BPF_HASH(counts, int, u64, 16384);
int hit(void *ctx) {
    counts.increment(stacks.get_stackid(ctx, BPF_F_USER_STACK));
    return 0;
}
""",
    "record": r"""
#include <uapi/linux/ptrace.h>
struct record { u64 time, size, type; u32 tid, pad; };
BPF_RINGBUF_OUTPUT(records, 1024);
BPF_PERCPU_ARRAY(hits, u64, 2);
int hit(struct pt_regs *ctx) {
    struct record *r = records.ringbuf_reserve(sizeof(*r));
    int slot = r ? 0 : 1;
    u64 *count = hits.lookup(&slot);
    if (count) (*count)++;
    if (!r) return 0;
    r->time = bpf_ktime_get_ns();
    r->size = ctx->ax;
    r->type = ctx->bx;
    r->tid = bpf_get_current_pid_tgid();
    r->pad = 0;
    records.ringbuf_submit(r, 0);
    return 0;
}
""",
}


def main():
    kind, binary, address, pid = sys.argv[1:5]
    stop = []
    signal.signal(signal.SIGINT, lambda *_: stop.append(1))
    bpf = BPF(text=PROGRAMS[kind])
    if kind == "record":
        bpf["records"].open_ring_buffer(lambda *_: 0)
    bpf.attach_uprobe(name=binary, addr=int(address, 16), pid=int(pid), fn_name="hit")
    while not stop:
        if kind == "record":
            bpf.ring_buffer_poll(100)
        else:
            time.sleep(0.1)
    if kind == "stack":
        hits = [sum(count.value for count in bpf["counts"].values()), 0]
    else:
        hits = [sum(bpf["hits"][slot]) for slot in range(2 if kind == "record" else 1)] + [0]
    print("hits", hits[0] + hits[1] if kind == "record" else hits[0], "lost", hits[1])


main()
