package main

import (
	"runtime"
	"sync/atomic"
	"time"
)

// How many goroutines each line starts.
const (
	short        = 1_013
	staying      = 257
	nestedFirst  = 149
	nestedSecond = 211
	timersFired  = 29
	contexts     = 31
	pulled       = 311
	// stored is more than can be alive at once in the phase.
	stored = 2_000
)

var (
	// baseGoroutines counts those that exist before the phase: main alone.
	baseGoroutines int
	ended          atomic.Int64
	timers         [timersFired]*time.Timer
)

// prepareGoroutines makes timers and contexts, so that firing them in the phase allocates nothing. It also fills the
// runtime's stores: dead goroutine structs, so that `go` need not make new ones, and sudogs, which the first allocation of a
// collection cycle takes in gcStart (a store that is empty would show as one more object at some innocent line).
func prepareGoroutines() {
	baseGoroutines = runtime.NumGoroutine()
	gate := make(chan struct{})
	for i := 0; i < stored; i++ {
		go func() {
			<-gate
			for begin := time.Now(); time.Since(begin) < 100*time.Microsecond; {
			} // long enough in all that both processors take part, and so both get sudogs
		}()
	}
	waitForGoroutines(baseGoroutines + stored)
	time.Sleep(20 * time.Millisecond) // until most of them wait; not all need to
	close(gate)
	waitForGoroutines(baseGoroutines)
	for i := range timers {
		timers[i] = time.AfterFunc(time.Hour, end)
	}
	prepareContexts()
}

func spawnAll() {
	spawnShort()
	spawnStaying()
	spawnNested(nestedFirst)
	spawnNested(nestedSecond)
	fireTimers()
	cancelContexts()
	pullAll()
}

// end is the body of all goroutines that end at once. It has no captured variable, so `go end()` needs no closure.
func end() {
	ended.Add(1)
}

// stay never ends. A select without cases needs no channel and so no sudog, which would be an allocation at this line.
func stay() {
	select {}
}

//go:noinline
func spawnShort() {
	for i := 0; i < short; i++ {
		go end() //site:short
	}
}

//go:noinline
func spawnStaying() {
	for i := 0; i < staying; i++ {
		go stay() //site:staying
	}
}

// spawnNested is called from two lines: one creation line, two creation stacks. The closure holds amount: 16 bytes.
//
//go:noinline
func spawnNested(count int) {
	for i := 0; i < count; i++ {
		amount := int64(i)
		go func() { ended.Add(amount) }() //site:nested
	}
}

// fireTimers makes the runtime's timer code start goroutines: `go` is in time.goFunc, and no frame of ours is on the stack.
//
//go:noinline
func fireTimers() {
	for _, timer := range timers {
		timer.Reset(time.Nanosecond)
	}
	for ended.Load() < expectedEnded(timersFired) {
		runtime.Gosched()
	}
}

// expectedEnded is the value of ended once short, both calls of nested, and n more are over.
func expectedEnded(n int64) int64 {
	return short + nestedFirst*(nestedFirst-1)/2 + nestedSecond*(nestedSecond-1)/2 + n
}
