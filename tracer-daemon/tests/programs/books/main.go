// Books says what the runtime says about itself, so that it can be compared with what is read from outside.
//
//	> ready PID
//	< stats            any line: allocate something, then say what ReadMemStats says
//	> {"Alloc": …}     runtime.MemStats as one line of JSON, and nothing is allocated until the next line is read
//	< end of input     the program exits
//
// With the argument `busy` two goroutines allocate all the time.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

type node struct {
	next *node
	data [5]uint64
}

var (
	kept   []*node
	blocks [][]byte
	sinks  [2]any
	stats  runtime.MemStats
	line   = make([]byte, 0, 64<<10)
	input  [1]byte
)

func work(round int) {
	for i := 0; i < 2000; i++ {
		kept = append(kept, &node{})
		blocks = append(blocks, make([]byte, 1+i*7%3000))
		sinks[0] = i << 20
	}
	blocks = append(blocks, make([]byte, 100<<10))
	if round%3 == 2 {
		kept, blocks = nil, nil
		runtime.GC()
	}
}

func field(name string, value uint64) {
	line = append(line, '"')
	line = append(line, name...)
	line = append(line, `":`...)
	line = strconv.AppendUint(line, value, 10)
	line = append(line, ',')
}

func say() {
	line = append(line[:0], '{')
	for _, f := range []struct {
		name  string
		value uint64
	}{
		{"Mallocs", stats.Mallocs}, {"Frees", stats.Frees}, {"TotalAlloc", stats.TotalAlloc}, {"HeapAlloc", stats.HeapAlloc},
		{"HeapObjects", stats.HeapObjects}, {"HeapInuse", stats.HeapInuse}, {"HeapIdle", stats.HeapIdle},
		{"HeapReleased", stats.HeapReleased}, {"HeapSys", stats.HeapSys}, {"StackInuse", stats.StackInuse},
		{"NextGC", stats.NextGC}, {"LastGC", stats.LastGC}, {"PauseTotalNs", stats.PauseTotalNs},
		{"NumGC", uint64(stats.NumGC)}, {"NumForcedGC", uint64(stats.NumForcedGC)},
	} {
		field(f.name, f.value)
	}
	line = append(line, `"PauseNs":[`...)
	for back := uint32(0); back < stats.NumGC && back < 256; back++ {
		line = strconv.AppendUint(line, stats.PauseNs[(stats.NumGC+255-back)%256], 10)
		line = append(line, ',')
	}
	line = append(line[:len(line)-1], `],"BySize":[`...)
	for _, class := range stats.BySize {
		line = append(line, '[')
		line = strconv.AppendUint(line, uint64(class.Size), 10)
		line = append(line, ',')
		line = strconv.AppendUint(line, class.Mallocs, 10)
		line = append(line, ',')
		line = strconv.AppendUint(line, class.Frees, 10)
		line = append(line, "],"...)
	}
	line = append(line[:len(line)-1], "]}\n"...)
	os.Stdout.Write(line)
}

func main() {
	runtime.GC()
	fmt.Printf("ready %d\n", os.Getpid())
	if len(os.Args) > 1 {
		for i := range sinks {
			go func(i int) {
				for {
					sinks[i] = &node{}
				}
			}(i)
		}
	}
	for round := 0; ; round++ {
		for {
			if n, err := os.Stdin.Read(input[:]); err != nil || n == 0 {
				return
			}
			if input[0] == '\n' {
				break
			}
		}
		work(round)
		// Sweeping goes on in the background for a moment, and frees.
		time.Sleep(20 * time.Millisecond)
		runtime.ReadMemStats(&stats)
		say()
	}
}
