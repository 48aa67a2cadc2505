// Command marks allocates objects of known kinds, says where they are, and keeps or forgets them as it is told, while
// the collector runs when it is told or all the time.
//
// It prints "ready", then answers each line of its input with lines of its own and "ok":
//
//	gc            collects garbage
//	percent N     sets GOGC; -1 is off
//	fill N        allocates N rounds of all kinds; prints "KIND BYTES ADDRESS ID" for each object
//	half N        the same, but keeps every other object only (tiny ones: every other sixteen); the others have the id -1
//	drop ID...    forgets these
//	churn N       allocates N rounds of all kinds, of which it keeps some for a while
//	ballast N     keeps N MiB of small objects
//	start, stop   churning in the background
package main

import (
	"bufio"
	"fmt"
	"math/rand"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

type kind struct {
	name     string
	bytes    int
	perRound int
	make     func() unsafe.Pointer
}

// Around the borders of the allocator's ways: blocks of tiny objects, marks within the span (16 to 512 bytes), headers (above 512 bytes
// with pointers, from go1.22 on), large objects (above 32768 bytes, header included).
var kinds = []kind{
	{"tiny", 1, 16, func() unsafe.Pointer { return unsafe.Pointer(new([1]byte)) }},
	{"tiny", 8, 16, func() unsafe.Pointer { return unsafe.Pointer(new([8]byte)) }},
	{"bytes", 16, 16, func() unsafe.Pointer { return unsafe.Pointer(new([16]byte)) }},
	{"pointers", 8, 16, func() unsafe.Pointer { return unsafe.Pointer(new([1]*byte)) }},
	{"pointers", 16, 16, func() unsafe.Pointer { return unsafe.Pointer(new([2]*byte)) }},
	{"bytes", 48, 16, func() unsafe.Pointer { return unsafe.Pointer(new([48]byte)) }},
	{"pointers", 64, 16, func() unsafe.Pointer { return unsafe.Pointer(new([8]*byte)) }},
	{"bytes", 512, 16, func() unsafe.Pointer { return unsafe.Pointer(new([512]byte)) }},
	{"pointers", 512, 16, func() unsafe.Pointer { return unsafe.Pointer(new([64]*byte)) }},
	{"bytes", 520, 16, func() unsafe.Pointer { return unsafe.Pointer(new([520]byte)) }},
	{"pointers", 520, 16, func() unsafe.Pointer { return unsafe.Pointer(new([65]*byte)) }},
	{"pointers", 1016, 8, func() unsafe.Pointer { return unsafe.Pointer(new([127]*byte)) }},
	{"pointers", 1024, 8, func() unsafe.Pointer { return unsafe.Pointer(new([128]*byte)) }},
	{"bytes", 4096, 8, func() unsafe.Pointer { return unsafe.Pointer(new([4096]byte)) }},
	{"pointers", 8192, 8, func() unsafe.Pointer { return unsafe.Pointer(new([1024]*byte)) }},
	{"bytes", 32768, 4, func() unsafe.Pointer { return unsafe.Pointer(new([32768]byte)) }},
	{"pointers", 32760, 4, func() unsafe.Pointer { return unsafe.Pointer(new([4095]*byte)) }},
	{"pointers", 32768, 4, func() unsafe.Pointer { return unsafe.Pointer(new([4096]*byte)) }},
	{"bytes", 32776, 4, func() unsafe.Pointer { return unsafe.Pointer(new([32776]byte)) }},
	{"pointers", 131072, 2, func() unsafe.Pointer { return unsafe.Pointer(new([16384]*byte)) }},
	{"bytes", 1 << 20, 1, func() unsafe.Pointer { return unsafe.Pointer(new([1 << 20]byte)) }},
	{"pointers", 1 << 20, 1, func() unsafe.Pointer { return unsafe.Pointer(new([1 << 17]*byte)) }},
	// Nobody keeps it, but its finalizer does.
	{"finalizer", 64, 4, func() unsafe.Pointer {
		object := new([8]*byte)
		runtime.SetFinalizer(object, revive)
		return unsafe.Pointer(object)
	}},
}

// Hides addresses from the collector, which looks for pointers in frames that it does not know.
const mask = 0x5a5a5a5a5a5a5a5a

// An object as it is told of.
type told struct {
	kind   *kind
	hidden uintptr
	id     int
}

var (
	kept    [1 << 16]unsafe.Pointer
	free    []int
	revived []*[8]*byte
	ballast []unsafe.Pointer
	sink    unsafe.Pointer
)

func revive(object *[8]*byte) { revived = append(revived, object) }

//go:noinline
func allocate(kind *kind, keep bool) told {
	object := kind.make()
	hidden := uintptr(object) ^ mask
	if !keep {
		sink = object // so that it is on the heap
		sink = nil
		return told{kind, hidden, -1}
	}
	id := free[len(free)-1]
	free = free[:len(free)-1]
	kept[id] = object
	return told{kind, hidden, id}
}

//go:noinline
func fill(rounds int, half bool) []told {
	objects := make([]told, 0, 256*rounds)
	for k := range kinds {
		kind := &kinds[k]
		for index := 0; index < rounds*kind.perRound; index++ {
			keep := index%2 == 0
			if kind.name == "tiny" {
				keep = index/16%2 == 0 // whole blocks
			}
			objects = append(objects, allocate(kind, kind.name != "finalizer" && (keep || !half)))
		}
	}
	return objects
}

//go:noinline
func drop(ids []string) {
	for _, text := range ids {
		id, err := strconv.Atoi(text)
		if err != nil || kept[id] == nil {
			fmt.Println("cannot drop", text)
			continue
		}
		kept[id] = nil
		free = append(free, id)
	}
}

// Keeps some of what it allocates for a while: who takes a slot over may live long.
type churner struct {
	random *rand.Rand
	rings  [][]unsafe.Pointer
}

func newChurner(seed int64) *churner {
	churner := &churner{random: rand.New(rand.NewSource(seed))}
	for _, kind := range kinds {
		entries := 1 << 20 / 4 / kind.bytes
		if entries > 256 {
			entries = 256
		}
		churner.rings = append(churner.rings, make([]unsafe.Pointer, entries+1))
	}
	return churner
}

// About 8 KiB of each kind.
func (c *churner) round() {
	const bytes = 8192
	for index, kind := range kinds {
		if kind.name == "finalizer" {
			continue
		}
		count := bytes / kind.bytes
		if c.random.Intn(kind.bytes) < bytes%kind.bytes {
			count++
		}
		if count > 64 {
			count = 64
		}
		ring := c.rings[index]
		for ; count > 0; count-- {
			ring[c.random.Intn(len(ring))] = kind.make()
		}
	}
}

// A goroutine that is interrupted anywhere has its innermost frame searched for whatever looks like a pointer
// (runtime/mgcmark.go, scanframeworker); words left behind there by earlier calls then keep objects. Without such interruptions
// exactly what main keeps is kept. Whoever says something of that in GODEBUG is obeyed.
func withPreciseStacks() {
	if strings.Contains(os.Getenv("GODEBUG"), "asyncpreemptoff=") {
		return
	}
	if err := os.Setenv("GODEBUG", "asyncpreemptoff=1"); err != nil {
		panic(err)
	}
	panic(syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
}

func main() {
	withPreciseStacks()
	for id := len(kept) - 1; id >= 0; id-- {
		free = append(free, id)
	}
	foreground := newChurner(1)
	var (
		background sync.WaitGroup
		stop       chan struct{}
	)
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<20)
	output := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(output, "ready")
	output.Flush()
	for input.Scan() {
		words := strings.Fields(input.Text())
		number := 0
		if len(words) > 1 {
			number, _ = strconv.Atoi(words[1])
		}
		switch words[0] {
		case "gc":
			runtime.GC()
		case "percent":
			debug.SetGCPercent(number)
		case "fill", "half":
			for _, object := range fill(number, words[0] == "half") {
				kind := object.kind
				fmt.Fprintln(output, kind.name, kind.bytes, uint64(object.hidden^mask), object.id)
			}
		case "drop":
			drop(words[1:])
		case "churn":
			for ; number > 0; number-- {
				foreground.round()
			}
		case "ballast":
			for ; number > 0; number-- {
				for object := 0; object < 1<<20/512; object++ {
					ballast = append(ballast, unsafe.Pointer(new([512]byte)))
				}
			}
		case "start":
			stop = make(chan struct{})
			for seed := int64(2); seed < 4; seed++ {
				background.Add(1)
				go func(churner *churner, stop chan struct{}) {
					defer background.Done()
					for {
						select {
						case <-stop:
							return
						default:
							churner.round()
							time.Sleep(time.Millisecond)
						}
					}
				}(newChurner(seed), stop)
			}
		case "stop":
			close(stop)
			background.Wait()
		default:
			fmt.Fprintln(output, "unknown", words[0])
		}
		fmt.Fprintln(output, "ok")
		output.Flush()
	}
}
