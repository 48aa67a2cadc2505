// Command callersframes says what the runtime itself answers to the questions that symbolize answers from outside.
//
//	callersframes pcs     for every program counter on stdin (decimal, one a line, relative to the beginning of main.main)
//	                      one JSON line: the frames that runtime.CallersFrames gives for it as a return address, inlined
//	                      ones included
//	callersframes stacks  JSON lines of real stacks: the program counters of the frame pointer chain, and the frames
//	                      that runtime.Callers and runtime.CallersFrames give for the same place
//
// Each line states where main.main is in memory.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"strings"
	"unsafe"
)

// Of the caller.
func framePointer() uintptr

// report prints the stack that leads here, twice.
//
//go:noinline
func report() {
	var pcs [64]uintptr
	n := runtime.Callers(1, pcs[:])
	// The first address is inside report; the frame pointer chain gives those of its callers.
	physical := []uint64{uint64(pcs[0] - 1)}
	for pointer := framePointer(); pointer != 0 && len(physical) < 64; {
		physical = append(physical, *(*uint64)(unsafe.Pointer(pointer + 8)))
		pointer = *(*uintptr)(unsafe.Pointer(pointer))
	}
	say(physical, framesOf(pcs[:n]))
}

type value struct{ n int }

// Called through a pointer or an interface, this has a wrapper.
//
//go:noinline
func (v value) Noinline() { report() }

// This is inlined into its wrapper.
func (v value) Inlined() { report() }

type outer struct {
	padding [8]int
	value
}

type both interface {
	Noinline()
	Inlined()
}

func apply[T any](items []T, each func(T)) {
	for _, item := range items {
		each(item)
	}
}

type list[T any] struct{ items []T }

//go:noinline
func (l *list[T]) Each(each func(T)) { apply(l.items, each) }

func onDivide(zero int) (result int) {
	defer func() {
		if recover() != nil {
			report()
		}
	}()
	return 1 / zero
}

// The instruction that faults is the first of its line: one byte before it is another line.
func onNil(pointer *value, before *int) (result int) {
	defer func() {
		_ = recover()
		report()
	}()
	*before = 7
	result = pointer.n
	return result
}

// A wrapper that panics because its pointer is nil stays in the stack.
func onNilWrapper(nothing both) {
	defer func() {
		_ = recover()
		report()
	}()
	nothing.Noinline()
}

func answerStacks() {
	report()
	for _, each := range []both{value{1}, &value{2}, outer{}, &outer{}} {
		each.Noinline()
		each.Inlined()
	}
	method := both(&value{3}).Noinline
	method()
	defer value{4}.Noinline()
	(&list[string]{[]string{"a"}}).Each(func(string) { report() })
	(&list[[]int]{[][]int{nil}}).Each(func([]int) { report() })
	func() { defer report() }()
	sort.Slice([]int{2, 1}, func(int, int) bool { report(); return false })
	strings.Map(func(r rune) rune { report(); return r }, "x")
	onDivide(len(os.Args) - len(os.Args))
	onNil(nil, new(int))
	onNilWrapper((*value)(nil))
	done := make(chan bool)
	go func(n int) {
		defer close(done)
		report()
	}(1)
	<-done
	done = make(chan bool)
	go signal(done, "argument")
	<-done
}

func signal(done chan bool, _ string) {
	defer close(done)
	report()
}

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "pcs":
		answerPCs()
	case len(os.Args) == 2 && os.Args[1] == "stacks":
		answerStacks()
	default:
		fmt.Fprintln(os.Stderr, "usage: callersframes pcs|stacks")
		os.Exit(2)
	}
}
