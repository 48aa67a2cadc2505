// Siteidentity allocates at, and starts goroutines from, every kind of place that a site can be, so that the ids of one place in
// several builds can be compared. All is kept, every object is sampled, and after two collections the profile says so.
//
//	> ready PID
//	< end of input     the program exits
//
// Known: one site for each line marked `site:NAME`, of goroutines where NAME begins with `go-`. The markers
// are where the compiler puts the place of the call, which in an expression over several lines is not its first.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// Before anything is allocated by this package.
var _ = everyObject()

func everyObject() bool {
	runtime.MemProfileRate = 1
	return true
}

var (
	kept  = make([]interface{}, 0, 4096)
	block = make(chan bool)
)

// A variable of the package that is a function: its name has a number that counts such functions.
var ofPackage = func(n int) []byte {
	return make([]byte, n) //site:package-closure
}

//go:noinline
func plain() *[640]byte {
	return new([640]byte) //site:plain
}

// Inlined into its callers.
func helper() *[704]byte {
	return &[704]byte{} //site:inlined-helper
}

//go:noinline
func oneCaller() { kept = append(kept, helper()) }

//go:noinline
func otherCaller() { kept = append(kept, helper()) }

type store struct{ items [][]byte }

//go:noinline
func (s *store) put(n int) {
	s.items[0] = make([]byte, n) //site:method
}

type putter interface{ put(n int) }

type box[T any] struct {
	value T
	more  [90]int
}

//go:noinline
func generic[T any](value T) *box[T] {
	return &box[T]{value: value} //site:generic
}

// Inlined into its callers.
func genericHelper[T any](value T) *box[[2]T] {
	return &box[[2]T]{value: [2]T{value, value}} //site:inlined-generic
}

//go:noinline
func closures() {
	keep := func(n int) {
		kept = append(kept, make([]byte, n)) //site:closure
	}
	for _, call := range []func(int){keep} {
		call(1792)
	}
}

//go:noinline
func standardLibrary() {
	var decoded map[string]string
	if err := json.Unmarshal([]byte(`{"a": "b"}`), &decoded); err != nil { //site:standard-library
		panic(err)
	}
	kept = append(kept, decoded)
	kept = append(kept, strings.Repeat("x", 2048)) //site:repeat
	var buffer bytes.Buffer
	buffer.Grow(3000) //site:buffer
	kept = append(kept, &buffer)
}

//go:noinline
func languageItself(text []byte) {
	kept = append(kept, make(map[string]int, 100)) //site:map
	kept = append(kept, make(chan [60]int, 10))    //site:channel
	kept = append(kept, string(text))              //site:string
	var grown []int64
	for i := int64(0); i < 200; i++ {
		grown = append(grown, i) //site:append
	}
	kept = append(kept, grown)
}

//go:noinline
func goroutines() {
	go func() { //site:go-closure
		<-block
	}()
	go wait(block) //site:go-function
	var w waiter
	go w.wait() //site:go-method
	startHelper()
	go genericWait(block) //site:go-generic
}

func wait(block chan bool) { <-block }

func genericWait[T any](block chan T) { <-block }

type waiter struct{}

func (waiter) wait() { <-block }

func startHelper() {
	go wait(block) //site:go-helper
}

func main() {
	kept = append(kept, plain(), ofPackage(896))
	oneCaller()
	otherCaller()
	var p putter = &store{items: make([][]byte, 1)}
	p.put(1152)
	kept = append(kept, p, generic(1), generic("a"), generic(1.5), genericHelper(1), genericHelper("a"))
	closures()
	standardLibrary()
	languageItself(bytes.Repeat([]byte("y"), 1500))
	goroutines()
	runtime.GC()
	runtime.GC()
	fmt.Printf("ready %d\n", os.Getpid())
	io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(kept)
}
