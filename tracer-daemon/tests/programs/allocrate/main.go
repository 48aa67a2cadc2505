// Allocrate allocates objects of one size at one line and reports what they cost itself: the target of the benches cost and overhead.
//
//	allocrate -rate 0 -goroutines 1 -size 96 -depth 0 -seconds 60 -wait
//	allocrate -rate 1200000 -goroutines 2 -mix -live 64 -seconds 60 -wait
//
// Every 25 ms it prints one JSON line {"ns":…,"allocations":…,"cpu_ns":…}: time of the kernel's monotonic clock, allocations so far,
// own CPU time (user + system of all threads). The cost of one allocation between any two lines is the difference of cpu_ns over
// that of allocations. The counter and cpu_ns are not read in one instant, and of other threads that run now the kernel tells what they had
// used at the last tick of its clock: between two lines errors of some milliseconds, which the next two have with the other sign.
//
// Known numbers: -size 96 allocates objects of size class 96 without pointers, above the 80 bytes up to which Go 1.27
// compiles calls of specialised functions, so runtime.mallocgc is called once each. Nothing else allocates but
// the report, about 5 objects each time. -mix allocates objects of 64 to 1,024 bytes in place of that (see sizes), half of them with
// pointers, at two lines; runtime.mallocgc is still called once each, since the compiler does not know their size. -live N keeps N MiB
// without pointers alive, so that collections are as rare as in a program of that size. -depth N adds N frames under the allocating one (4 with the runtime's without).
// -rate N is a sum over all goroutines, kept in steps of 1 ms; 0 means as fast as possible.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const reportEvery = 25 * time.Millisecond

// sizes is what -mix goes through, in bytes: most objects are small, as in most programs. Their mean is 188.
var sizes = [16]int{64, 128, 64, 256, 96, 64, 128, 512, 64, 192, 96, 64, 64, 128, 1024, 64}

// worker counts its allocations in its own cache line.
type worker struct {
	allocations atomic.Int64
	sink        []byte
	pointers    []*byte
	_           [96]byte
}

func main() {
	rate := flag.Int64("rate", 0, "allocations per second of the program; 0: as fast as possible")
	goroutines := flag.Int("goroutines", 1, "allocating goroutines")
	size := flag.Int("size", 96, "bytes of each object")
	mix := flag.Bool("mix", false, "objects of 64 to 1,024 bytes in place of -size")
	live := flag.Int("live", 0, "MiB that stay alive")
	depth := flag.Int("depth", 0, "extra frames on the stack")
	seconds := flag.Float64("seconds", 60, "how long")
	wait := flag.Bool("wait", false, "print ready and wait for a line on stdin")
	noGC := flag.Bool("gcoff", false, "no garbage collection (with a 4 GiB memory limit as a guard)")
	flag.Parse()
	if *goroutines < 1 || *size < 1 || *size > 1<<20 || *depth < 0 || *depth > 1000 || *rate < 0 || *live < 0 || *live > 1<<12 {
		fmt.Fprintln(os.Stderr, "allocrate: a flag is out of its bounds, see -help")
		os.Exit(2)
	}
	if *noGC {
		debug.SetGCPercent(-1)
		debug.SetMemoryLimit(4 << 30)
	}
	if *wait {
		fmt.Printf("{\"ready\":true,\"pid\":%d,\"go_version\":%q}\n", os.Getpid(), runtime.Version())
		var line [64]byte
		if n, err := os.Stdin.Read(line[:]); n == 0 || err != nil {
			return
		}
	}
	if *mix {
		*size = 0
	}
	kept := make([]byte, *live<<20)
	workers := make([]*worker, *goroutines)
	for i := range workers {
		workers[i] = &worker{}
		go workers[i].run(*rate/int64(*goroutines), *size, *depth)
	}
	report(workers, time.Duration(*seconds*float64(time.Second)))
	runtime.KeepAlive(kept)
}

// run allocates in batches: all that is due since the begin, then sleeps. The batch bounds how late a counter may be.
func (w *worker) run(rate int64, size, depth int) {
	const batch = 256
	begin := time.Now()
	for {
		due := int64(batch)
		if rate > 0 {
			due = int64(time.Since(begin).Seconds()*float64(rate)) - w.allocations.Load()
			if due <= 0 {
				time.Sleep(time.Millisecond)
				continue
			}
			if due > batch {
				due = batch
			}
		}
		w.descend(due, size, depth)
		w.allocations.Add(due)
	}
}

// descend makes depth frames, then allocates; a size of 0 means -mix.
//
//go:noinline
func (w *worker) descend(count int64, size, depth int) {
	if depth > 0 {
		w.descend(count, size, depth-1)
		w.touch()
		return
	}
	if size == 0 {
		w.allocateMix(count)
		return
	}
	for ; count > 0; count-- {
		w.allocate(size)
	}
}

// allocateMix goes through sizes; every second object holds pointers.
func (w *worker) allocateMix(count int64) {
	for ; count > 0; count-- {
		size := sizes[count%int64(len(sizes))]
		if count%2 == 0 {
			w.pointers = make([]*byte, size/8) //site:pointers
		} else {
			w.sink = make([]byte, size) //site:bytes
		}
	}
}

// allocate is the one allocating line. It is no function of its own in the binary: the loop is in descend.
func (w *worker) allocate(size int) {
	w.sink = make([]byte, size) //site:allocate
}

// touch keeps the recursion from being a tail call.
//
//go:noinline
func (w *worker) touch() {}

// report prints a line every 25 ms and returns at the end.
func report(workers []*worker, duration time.Duration) {
	begin := time.Now()
	tick := time.NewTicker(reportEvery)
	line := make([]byte, 0, 128)
	for now := range tick.C {
		allocations := int64(0)
		for _, w := range workers {
			allocations += w.allocations.Load()
		}
		line = append(line[:0], `{"ns":`...)
		line = strconv.AppendInt(line, monotonic(), 10)
		line = append(line, `,"allocations":`...)
		line = strconv.AppendInt(line, allocations, 10)
		line = append(line, `,"cpu_ns":`...)
		line = strconv.AppendInt(line, cpuTime(), 10)
		line = append(line, "}\n"...)
		if _, err := os.Stdout.Write(line); err != nil || now.Sub(begin) >= duration {
			return
		}
	}
}

// monotonic is the time of CLOCK_MONOTONIC in nanoseconds.
func monotonic() int64 {
	const clockMonotonic = 1
	var now syscall.Timespec
	if _, _, err := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&now)), 0); err != 0 {
		panic(err)
	}
	return now.Nano()
}

// cpuTime is user + system time of the process in nanoseconds.
func cpuTime() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}
