// Memory takes memory in one way, so that it is known what most of it is.
//
//	> ready PID        the memory is taken
//	< stats            any line: say what ReadMemStats says
//	> {"HeapInuse": …} some fields of runtime.MemStats as one line of JSON
//	< grow             only `native`: take 16 MiB more in C code; the answer is as above
//	< end of input     the program exits
//
// The argument says the way; each takes 128 MiB unless said.
//
//	live        objects of many sizes that stay in use
//	garbage     64 MiB of them, and 128 MiB of dead objects, since the collector is told to wait for long
//	fragmented  objects of 1 KiB, of which one in eight stays in use
//	idle        freed at once, before the runtime has given it back
//	madvfree    freed and given back; with GODEBUG=madvdontneed=0 the kernel leaves it where it is
//	stacks      2,048 goroutines with stacks of 64 KiB, of which 44 KiB were written
//	native      by malloc of C, in pieces of 64 KiB, each touched (needs cgo)
//	mapped      by mmap of no file, from Go code
//	file        by mmap of a file, which the second argument names; each page is read
//	untouched   one object of 1 GiB, of which 16 MiB were written
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
)

const total = 128 << 20

type node struct {
	next *node
	data [11]uint64
}

var (
	nodes   *node
	blocks  [][]byte
	mapped  []byte
	sum     byte
	sinks   [64]any
	deepest = make(chan bool)
	forever = make(chan bool)
)

// Of these sizes: without pointers, with them, large.
func keep(bytes int) {
	for taken := 0; taken < bytes; {
		for i := 0; i < 100; i++ {
			nodes = &node{next: nodes}
		}
		size := 16 + taken*7%5000
		for i := 0; i < 4; i++ {
			block := make([]byte, size)
			fill(block)
			blocks = append(blocks, block)
		}
		taken += 100*96 + 4*size
		if taken%9 == 0 {
			block := make([]byte, 100<<10)
			fill(block)
			blocks = append(blocks, block)
			taken += 100 << 10
		}
	}
}

func deep(left int) byte {
	var frame [1 << 10]byte
	frame[left%len(frame)] = byte(left)
	if left == 0 {
		deepest <- true
		<-forever
		return frame[0]
	}
	return deep(left-1) + frame[left%len(frame)]
}

func fill(bytes []byte) {
	for at := 0; at < len(bytes); at += 4096 {
		bytes[at] = 1
	}
}

func mapAnonymous(bytes int) []byte {
	memory, err := syscall.Mmap(-1, 0, bytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	fill(memory)
	return memory
}

func take(way string) {
	switch way {
	case "live":
		keep(total)
		runtime.GC()
	case "garbage":
		debug.SetGCPercent(1000)
		keep(total / 2)
		runtime.GC()
		for i := 0; i < total/(64<<10); i++ {
			for k := range sinks {
				block := make([]byte, 1<<10)
				fill(block)
				sinks[k] = block
			}
		}
	case "fragmented":
		for i := 0; i < total/(1<<10); i++ {
			block := make([]byte, 1<<10)
			fill(block)
			blocks = append(blocks, block)
		}
		for i := range blocks {
			if i%8 != 0 {
				blocks[i] = nil
			}
		}
		runtime.GC()
	case "idle", "madvfree":
		for i := 0; i < total/(32<<10); i++ {
			block := make([]byte, 32<<10)
			fill(block)
			blocks = append(blocks, block)
		}
		blocks = nil
		runtime.GC()
		if way == "madvfree" {
			debug.FreeOSMemory()
		}
	case "stacks":
		for i := 0; i < total/(64<<10); i++ {
			go deep(40)
		}
		for i := 0; i < total/(64<<10); i++ {
			<-deepest
		}
	case "native":
		takeNative(total)
	case "mapped":
		mapped = mapAnonymous(total)
	case "file":
		file, err := os.Open(os.Args[2])
		if err != nil {
			panic(err)
		}
		mapped, err = syscall.Mmap(int(file.Fd()), 0, total, syscall.PROT_READ, syscall.MAP_SHARED)
		if err != nil {
			panic(err)
		}
		for at := 0; at < total; at += 4096 {
			sum += mapped[at]
		}
	case "untouched":
		mapped = make([]byte, 1<<30)
		fill(mapped[:16<<20])
		runtime.GC()
	default:
		panic("no such way: " + way)
	}
}

func main() {
	take(os.Args[1])
	fmt.Printf("ready %d\n", os.Getpid())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() == "grow" {
			takeNative(16 << 20)
		}
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		stats.PauseNs, stats.PauseEnd = [256]uint64{}, [256]uint64{}
		if err := json.NewEncoder(os.Stdout).Encode(&stats); err != nil {
			panic(err)
		}
	}
	runtime.KeepAlive(nodes)
	runtime.KeepAlive(blocks)
}
