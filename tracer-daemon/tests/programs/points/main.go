// Points says what must be seen at the probe points of collections, of slots and of the runtime's own profiler.
//
//	> ready PID
//	< go                   any line
//	> {"collections": …}   one line of JSON (type truth)
//	< end of input         the program exits
//
// Every allocation is sampled by the runtime's profiler (MemProfileRate is 1).
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"unsafe"
)

const (
	// A size class of its own: 7 objects in a span of one page, so that every seventh needs a new span.
	mediumBytes = 1152
	// What is asked for, and by nobody else.
	askedBytes = 1149
	mediums    = 1000
	// Beyond the size classes: a span each.
	largeBytes = 64 << 10
	larges     = 50
	forced     = 20
)

type truth struct {
	// Collections is how many have ended between the two lines.
	Collections uint32   `json:"collections"`
	AskedBytes  int      `json:"asked_bytes"`
	MediumBytes int      `json:"medium_bytes"`
	Mediums     []uint64 `json:"mediums"`
	LargeBytes  int      `json:"large_bytes"`
	Larges      []uint64 `json:"larges"`
}

var (
	mediumObjects [mediums][]byte
	largeObjects  [larges][]byte
	result        = truth{Mediums: make([]uint64, mediums), Larges: make([]uint64, larges)}
)

func addressOf(object []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&object[0]))) }

func work() {
	for i := 0; i < forced; i++ {
		runtime.GC()
	}
	for i := range mediumObjects {
		mediumObjects[i] = make([]byte, askedBytes)
		result.Mediums[i] = addressOf(mediumObjects[i])
	}
	for i := range largeObjects {
		largeObjects[i] = make([]byte, largeBytes)
		result.Larges[i] = addressOf(largeObjects[i])
	}
	for i := range mediumObjects {
		mediumObjects[i] = nil
	}
	for i := range largeObjects {
		largeObjects[i] = nil
	}
	// The second sweeps what the first has found dead.
	runtime.GC()
	runtime.GC()
}

func collections() uint32 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.NumGC
}

func main() {
	runtime.MemProfileRate = 1
	input := bufio.NewReader(os.Stdin)
	fmt.Printf("ready %d\n", os.Getpid())
	if _, err := input.ReadString('\n'); err != nil {
		return
	}
	before := collections()
	work()
	result.Collections = collections() - before
	result.AskedBytes, result.MediumBytes, result.LargeBytes = askedBytes, mediumBytes, largeBytes
	line, err := json.Marshal(result)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(append(line, '\n'))
	for err == nil {
		_, err = input.ReadString('\n')
	}
}
