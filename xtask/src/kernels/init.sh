#!/bin/busybox sh
# The first process of a virtual machine: watches each program with leakline and says how it went, a line each that
# begins with `@@`. Counterpart: `guest.rs`.

/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
# Only what is said here belongs on the console.
dmesg -n 1

# What the code of process $1, which runs file $2, has other than the file: bytes.
differing() {
    set -- "$1" "$2" $(grep ' r-xp ' "/proc/$1/maps" | grep -m 1 "$2")
    begin=$((0x${3%%-*} / 4096))
    pages=$((0x${3##*-} ))
    pages=$((pages / 4096 - begin))
    dd if="/proc/$1/mem" of=/tmp/memory bs=4096 skip=$begin count=$pages 2>/dev/null
    dd if="$2" of=/tmp/file bs=4096 skip=$((0x$5 / 4096)) count=$pages 2>/dev/null
    cmp -l /tmp/memory /tmp/file 2>/dev/null | wc -l
}

echo "@@ kernel $(uname -r)"
leakline doctor --output json >/tmp/doctor.json 2>/tmp/log
echo "@@ doctor $?"
echo "@@ checks $(tail -n 1 /tmp/doctor.json)"

# In short there are none.
for program in /bin/checked-*; do
    [ -e "$program" ] || continue
    "$program" -leak 400000 >/tmp/program.log 2>&1 &
    target=$!
    sleep 1
    echo "@@ program ${program##*-}"
    leakline attach --pid $target --evidence bursts --max-overhead "$(cat /overhead)" --warm-after 0s --duration "$(cat /duration)" --output json >/tmp/documents 2>/tmp/log
    echo "@@ attach $?"
    sed 's/^/leakline: /' /tmp/log
    echo "@@ document $(tail -n 1 /tmp/documents)"
    echo "@@ differing $(differing $target "$program")"

    # Killed while a window is open: beside the probes that stay there are those of a window then.
    in_window=5
    grep -q bursts_by_perf_events /tmp/documents && in_window=3
    leakline attach --pid $target --evidence bursts --max-overhead 50% --duration 10m --output json >/dev/null 2>&1 &
    leakline=$!
    found=0
    looks=0
    while [ $found -lt $in_window ] && [ $looks -lt 1000 ]; do
        found=$(differing $target "$program")
        looks=$((looks + 1))
    done
    kill -9 $leakline
    echo "@@ killed $found"
    looks=0
    while [ "$(differing $target "$program")" != 0 ] && [ $looks -lt 300 ]; do
        usleep 100000
        looks=$((looks + 1))
    done
    echo "@@ left $(differing $target "$program")"
    before=$(cut -d ' ' -f 14 /proc/$target/stat)
    sleep 2
    # Whether it runs on: CPU time that it takes.
    echo "@@ runs $(($(cut -d ' ' -f 14 /proc/$target/stat) - before))"
    echo "@@ holders $(ps | grep -c '[h]old-probes')"
    kill $target
    wait $target
    echo "@@ exit $? $(tail -n 1 /tmp/program.log)"
done
echo "@@ dmesg $(dmesg | grep -c -E 'leaking uprobe|WARNING:|BUG:')"
dmesg | grep -E 'leaking uprobe|WARNING:|BUG:' | head -n 5
echo "@@ end"
poweroff -f
