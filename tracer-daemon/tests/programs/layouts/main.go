// Layouts links every part of the runtime whose structures leakline reads, so that the linker keeps their types in the
// DWARF. It is built for `cargo xtask codegen layouts` and read, never run. Known numbers: none.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"sync"
	"time"
)

type node struct {
	next *node
	text string
}

// books keeps the runtime's profiles: buckets, records, special records.
func books() {
	runtime.MemProfileRate = 1
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	for _, profile := range pprof.Profiles() {
		if err := profile.WriteTo(os.Stderr, 0); err != nil {
			os.Exit(1)
		}
	}
	records := make([]runtime.MemProfileRecord, 10)
	runtime.MemProfile(records, true)
	stacks := make([]runtime.StackRecord, 10)
	runtime.GoroutineProfile(stacks)
}

// heap keeps the allocator, the collector and its numbers.
func heap() {
	first := &node{text: "first"}
	runtime.SetFinalizer(first, func(last *node) { println(last.text) })
	first = nil
	runtime.GC()
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(1 << 30)
	debug.FreeOSMemory()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	samples := []metrics.Sample{{Name: "/sched/goroutines:goroutines"}}
	metrics.Read(samples)
	println(stats.NumGC, samples[0].Value.Uint64())
}

// goroutines keeps channels, timers, signals and what waits for them.
func goroutines() {
	var group sync.WaitGroup
	var mutex sync.Mutex
	condition := sync.NewCond(&mutex)
	numbers, done := make(chan int, 3), make(chan *node)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt)
	limited, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	group.Add(1)
	go pprof.Do(limited, pprof.Labels("part", "worker"), func(context.Context) {
		defer group.Done()
		for range numbers {
			condition.Broadcast()
		}
		close(done)
	})
	for number := 0; number < 9; number++ {
		select {
		case numbers <- number:
		case <-signals:
		case <-limited.Done():
		case <-time.After(time.Second):
		}
	}
	close(numbers)
	<-done
	group.Wait()
	debug.SetMaxThreads(100)
	os.Stdout.Write(debug.Stack())
}

func main() {
	books()
	heap()
	goroutines()
}
