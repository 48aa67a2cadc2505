// Heapprofile says what the runtime's heap profile says about itself, so that it can be compared with what is read from outside.
//
//	> ready PID
//	< work             allocate and keep, by several ways
//	> done
//	< known N          allocate N objects of 1234 bytes at one line and keep them
//	> done
//	< stacks N         allocate once from each of 2^N stacks
//	> done
//	< drop             let go of all
//	> done
//	< gc               collect, sweeping included
//	> done
//	< profile          runtime.MemProfile
//	> {"rate": …, "records": [[bytes allocated, bytes freed, objects allocated, objects freed, [return addresses]], …]}
//	< heap FILE        pprof.WriteHeapProfile
//	> done
//	< rate             runtime.MemProfileRate
//	> 524288
//	< setrate N        set it
//	> done
//	< end of input     the program exits
//
// The first argument is the rate. With the argument `busy` behind it, it allocates and collects all the time. Built with the tag
// `nosampler`, nothing in it reads a profile, so that the linker turns the sampler off.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// Before anything is allocated by this package.
var _ = setRate()

func setRate() bool {
	if len(os.Args) > 1 {
		if rate, err := strconv.Atoi(os.Args[1]); err == nil {
			runtime.MemProfileRate = rate
		}
	}
	return true
}

type pair[T any] struct{ first, second T }

type holder interface{ hold(n int) }

type box struct{ kept [][]byte }

func (b *box) hold(n int) { b.kept = append(b.kept, make([]byte, n)) }

type wrapper struct{ *box }

var (
	boxes   [][]byte
	strs    []string
	pairs   []*pair[int]
	maps    []map[int]string
	known   [][]byte
	inboxes []*box
	sink    []byte
)

// Inlined into its callers.
func keep(b []byte) { boxes = append(boxes, b) }

func makePair[T any](a, b T) *pair[T] { return &pair[T]{a, b} }

//go:noinline
func deep(n int) {
	if n > 0 {
		deep(n - 1)
		return
	}
	keep(make([]byte, 3000))
}

//go:noinline
func left(depth int) { branch(depth - 1) }

//go:noinline
func right(depth int) { branch(depth - 1) }

func branch(depth int) {
	if depth == 0 {
		keep(make([]byte, 48))
		return
	}
	left(depth)
	right(depth)
}

//go:noinline
func allocateKnown(n int) {
	for i := 0; i < n; i++ {
		known = append(known, make([]byte, 1234))
	}
}

func work() {
	for i := 0; i < 3000; i++ {
		keep(make([]byte, 1+i*7%5000))
		strs = append(strs, strings.Repeat("x", i%700+20))
		pairs = append(pairs, makePair(i, i))
		if i%10 == 0 {
			maps = append(maps, map[int]string{i: strconv.Itoa(i)})
		}
		if i%50 == 0 {
			deep(i / 10 % 60)
		}
		sink = make([]byte, 2000)
		func() { keep(make([]byte, 100)) }()
	}
	b := &box{}
	inboxes = append(inboxes, b)
	var h holder = wrapper{b}
	for i := 0; i < 1000; i++ {
		h.hold(2500)
	}
	keep(make([]byte, 1<<20))
	done := make(chan bool)
	go func() {
		for i := 0; i < 500; i++ {
			keep(make([]byte, 4000))
		}
		done <- true
	}()
	<-done
}

func drop() {
	boxes, strs, pairs, maps, known, inboxes = nil, nil, nil, nil, nil, nil
}

func main() {
	busy := len(os.Args) > 2 && os.Args[2] == "busy"
	if !busy {
		debug.SetGCPercent(-1)
	}
	fmt.Printf("ready %d\n", os.Getpid())
	if busy {
		go func() {
			for {
				work()
				drop()
				time.Sleep(time.Millisecond)
			}
		}()
	}
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		command, argument, _ := strings.Cut(input.Text(), " ")
		switch command {
		case "work":
			work()
		case "known":
			n, _ := strconv.Atoi(argument)
			allocateKnown(n)
		case "stacks":
			n, _ := strconv.Atoi(argument)
			branch(n)
		case "drop":
			drop()
		case "gc":
			runtime.GC()
		case "setrate":
			runtime.MemProfileRate, _ = strconv.Atoi(argument)
		case "rate":
			fmt.Println(runtime.MemProfileRate)
			continue
		default:
			if ask(command, argument) {
				continue
			}
		}
		fmt.Println("done")
	}
}
