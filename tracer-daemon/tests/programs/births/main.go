// Command births allocates objects of many kinds on several goroutines and writes down where each of them lies and when it
// was there, in memory that is not the collector's.
//
// Arguments: the number of goroutines, and how many objects of each stay alive. It prints "ready", allocates until a line
// of times comes, pairs of a beginning and an end in nanoseconds of the monotonic clock, ascending, and then writes for each goroutine a line
// "GOROUTINE ENTRIES", followed by what it wrote down in these times and the entry before each, oldest first: "NANOSECONDS SIZE ADDRESS" each, in
// hexadecimal.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

//go:linkname nanotime runtime.nanotime
func nanotime() int64

const (
	entries    = 1 << 20
	entryBytes = 24
)

type entry struct {
	at      int64
	size    uintptr
	address uintptr
}

type log struct {
	goroutine uint64
	next      int
	entries   *[entries]entry
}

func newLog() *log {
	memory, err := syscall.Mmap(-1, 0, entries*entryBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	return &log{goroutine: goroutineID(), entries: (*[entries]entry)(unsafe.Pointer(&memory[0]))}
}

// The number that runtime.Stack begins with: "goroutine 18 [running]:".
func goroutineID() uint64 {
	var text [64]byte
	id, err := strconv.ParseUint(strings.Fields(string(text[:runtime.Stack(text[:], false)]))[1], 10, 64)
	if err != nil {
		panic(err)
	}
	return id
}

func (l *log) note(address unsafe.Pointer, size uintptr) unsafe.Pointer {
	l.entries[l.next%entries] = entry{nanotime(), size, uintptr(address)}
	l.next++
	return address
}

type (
	node  struct{ next, other *node }
	node3 struct{ a, b, c *node }
	n64   struct {
		next *n64
		_    [56]byte
	}
	n200 struct {
		next *n200
		_    [192]byte
	}
	n512 struct {
		next *n512
		_    [504]byte
	}
	n600 struct {
		next *n600
		_    [592]byte
	}
	n2000 struct {
		next *n2000
		_    [1992]byte
	}
	n9000 struct {
		next *n9000
		_    [8992]byte
	}
	n40000 struct {
		next *n40000
		_    [39992]byte
	}
)

// Around the borders of the allocator's ways: tiny, with and without pointers, with a header (above 512 bytes with pointers,
// from go1.22 on), large (above 32768 bytes).
var kinds = []struct {
	size uintptr
	make func() unsafe.Pointer
}{
	{1, func() unsafe.Pointer { return unsafe.Pointer(new(byte)) }},
	{2, func() unsafe.Pointer { return unsafe.Pointer(new([2]byte)) }},
	{5, func() unsafe.Pointer { return unsafe.Pointer(new([5]byte)) }},
	{8, func() unsafe.Pointer { return unsafe.Pointer(new(uint64)) }},
	{12, func() unsafe.Pointer { return unsafe.Pointer(new([3]uint32)) }},
	{8, func() unsafe.Pointer { return unsafe.Pointer(new(*byte)) }},
	{16, func() unsafe.Pointer { return unsafe.Pointer(new(node)) }},
	{16, func() unsafe.Pointer { return unsafe.Pointer(new([16]byte)) }},
	{24, func() unsafe.Pointer { return unsafe.Pointer(new(node3)) }},
	{48, func() unsafe.Pointer { return unsafe.Pointer(new([48]byte)) }},
	{64, func() unsafe.Pointer { return unsafe.Pointer(new(n64)) }},
	{200, func() unsafe.Pointer { return unsafe.Pointer(new(n200)) }},
	{500, func() unsafe.Pointer { return unsafe.Pointer(new([500]byte)) }},
	{512, func() unsafe.Pointer { return unsafe.Pointer(new(n512)) }},
	{600, func() unsafe.Pointer { return unsafe.Pointer(new(n600)) }},
	{1000, func() unsafe.Pointer { return unsafe.Pointer(new([1000]byte)) }},
	{2000, func() unsafe.Pointer { return unsafe.Pointer(new(n2000)) }},
	{9000, func() unsafe.Pointer { return unsafe.Pointer(new(n9000)) }},
	{20000, func() unsafe.Pointer { return unsafe.Pointer(new([20000]byte)) }},
	{40000, func() unsafe.Pointer { return unsafe.Pointer(new(n40000)) }},
}

var stop atomic.Bool

// allocate makes objects of random kinds, the small ones more often, and keeps the last ones.
func allocate(l *log, seed uint32, kept int) {
	ring := make([]unsafe.Pointer, kept)
	for round := 0; !stop.Load(); round++ {
		seed ^= seed << 13
		seed ^= seed >> 17
		seed ^= seed << 5
		kind := &kinds[int(seed>>8)%len(kinds)]
		if kind.size > 1000 && seed&7 != 0 {
			kind = &kinds[int(seed>>16)%16]
		}
		ring[round%kept] = l.note(kind.make(), kind.size)
		for i := 0; i < 300; i++ { // so that what is written down reaches back for seconds
			seed ^= seed << 13
			seed ^= seed >> 17
			seed ^= seed << 5
		}
		if round%4096 == 0 {
			runtime.Gosched()
		}
	}
	runtime.KeepAlive(ring)
}

func main() {
	goroutines, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	kept, err := strconv.Atoi(os.Args[2])
	if err != nil {
		panic(err)
	}
	logs := make([]*log, goroutines)
	var running sync.WaitGroup
	for i := range logs {
		i := i
		running.Add(1)
		go func() {
			defer running.Done()
			logs[i] = newLog()
			allocate(logs[i], uint32(i)*2654435761+1, kept)
		}()
	}
	fmt.Println("ready")
	line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	stop.Store(true)
	running.Wait()
	var times []int64
	for _, word := range strings.Fields(line) {
		at, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			panic(err)
		}
		times = append(times, at)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, l := range logs {
		written := l.within(times)
		fmt.Fprintf(out, "%d %d\n", l.goroutine, len(written))
		for _, e := range written {
			fmt.Fprintf(out, "%x %x %x\n", e.at, e.size, e.address)
		}
	}
}

// within are the entries between pairs of times, each with the one before and the one behind.
func (l *log) within(times []int64) []entry {
	first := 0
	if l.next > entries {
		first = l.next - entries
	}
	var found []entry
	for i := first; i < l.next; i++ {
		e := l.entries[i%entries]
		for len(times) > 1 && e.at > times[1] {
			// The end of an object that was begun before.
			found = append(found, e)
			times = times[2:]
		}
		before := i+1 < l.next && len(times) > 1 && l.entries[(i+1)%entries].at >= times[0]
		if len(times) > 1 && (e.at >= times[0] || before) {
			found = append(found, e)
		}
	}
	return found
}
