// Knownsites allocates and starts goroutines at lines whose exact numbers it knows, and says so afterwards: what
// leakline counted per line must equal what this program prints.
//
// Protocol on stdin and stdout, line by line:
//
//	> ready PID            everything that the program needs for itself is allocated
//	< go                   any line; the phase begins
//	> done                 the phase is over: 4 workers have ended, so have all goroutines that should
//	> {"sites": …}         the truth as one line of JSON (type truth in truth.go)
//	< end of input         the program exits
//
// Known numbers (sites.go, goroutines.go, pull.go): 152,732 objects from 13 lines by four parallel workers, among them
// five kinds that are easy to get wrong: tiny objects, size 0, a malloc header (pointers, more than 512 bytes), a helper
// inlined at three places, one generic line with two instantiations; 364 closures of `go` statements;
// 1,013 + 257 + 360 + 29 + 4 goroutines, 31 more from Go 1.21 (context.AfterFunc) and, from Go 1.23 (1.22 with
// GOEXPERIMENT=rangefunc), 311 coroutines. The numbers hold from Go 1.19 on. Between `go` and `done` no line of this package allocates anything else, and the
// runtime next to nothing for itself: dead goroutines are kept ready for reuse (runtime.malg is not needed), sudogs too.
//
// `go build -tags selfcheck` makes a program that proves its numbers with runtime.MemProfile at rate 1 and with
// runtime.MemStats instead of speaking the protocol. The default build must not link runtime.MemProfile.
package main

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

// selfcheck is set by selfcheck.go only (build tag).
var selfcheck func() error

// inputByte is outside the heap, so that reading stdin allocates nothing.
var inputByte [1]byte

func main() {
	runtime.GOMAXPROCS(2)
	prepare()
	if selfcheck != nil {
		if err := selfcheck(); err != nil {
			fmt.Fprintln(os.Stderr, "knownsites:", err)
			os.Exit(1)
		}
		return
	}
	fmt.Printf("ready %d\n", os.Getpid())
	if !readUntil('\n') {
		return
	}
	phase()
	os.Stdout.WriteString("done\n")
	os.Stdout.Write(append(encodeTruth(), '\n'))
	for readUntil('\n') {
	}
}

// prepare makes what the phase needs: garbage collector workers, the timer of main's Sleep, timers, contexts.
func prepare() {
	runtime.GC()
	time.Sleep(time.Millisecond)
	prepareGoroutines()
	for i := range workers {
		workers[i].prepare(i)
	}
}

// phase is all that happens between `go` and `done`.
func phase() {
	startWorkers()
	waitForGoroutines(baseGoroutines)
	spawnAll()
	waitForGoroutines(baseGoroutines + staying)
}

// waitForGoroutines returns when all but n goroutines are gone for good: NumGoroutine falls only after the runtime has
// put a dead goroutine on its free list. Sleep allocates nothing here: main's timer exists since prepare.
func waitForGoroutines(n int) {
	for runtime.NumGoroutine() != n {
		time.Sleep(time.Millisecond)
	}
}

// readUntil reads stdin up to and with the byte; false means end of input.
func readUntil(end byte) bool {
	for {
		n, err := os.Stdin.Read(inputByte[:])
		if n == 1 && inputByte[0] == end {
			return true
		}
		if err != nil {
			return false
		}
	}
}
