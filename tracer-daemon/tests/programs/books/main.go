// Books says what the runtime says about itself, so that it can be compared with what is read from outside.
//
//	> ready PID
//	< stats            allocate something, then say what ReadMemStats and runtime/metrics say
//	< again            say it without allocating anything
//	> {"Alloc": …}     one line of JSON; nothing is allocated until the next line is read
//	< end of input     the program exits
//
// With the argument `busy` goroutines allocate all the time, collections run, GOMAXPROCS changes and runtime/metrics is read;
// a line then allocates nothing more. With `spread N` each processor has a goroutine that holds N objects of all size classes,
// about 6 KiB each, and replaces some of them every few milliseconds.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"time"
)

type node struct {
	next *node
	data [5]uint64
}

var (
	kept    []*node
	blocks  [][]byte
	sink    any
	stats   runtime.MemStats
	samples []metrics.Sample
	line    = make([]byte, 0, 256<<10)
	input   [1]byte
)

func work(round int) {
	for i := 0; i < 2000; i++ {
		kept = append(kept, &node{})
		blocks = append(blocks, make([]byte, 1+i*7%3000))
		sink = i << 20
	}
	blocks = append(blocks, make([]byte, 100<<10))
	if round%3 == 2 {
		kept, blocks = nil, nil
		runtime.GC()
	}
	switch round {
	case 4:
		debug.SetMemoryLimit(24 << 20)
	case 5:
		debug.SetGCPercent(-1)
	case 7:
		debug.SetMemoryLimit(2 << 20)
	case 8:
		debug.SetMemoryLimit(1<<63 - 1)
		debug.SetGCPercent(50)
	case 9:
		runtime.GOMAXPROCS(5)
	case 10:
		runtime.GOMAXPROCS(1)
	}
}

func number(value uint64) {
	line = strconv.AppendUint(line, value, 10)
	line = append(line, ',')
}

func name(name string) {
	line = append(line, '"')
	line = append(line, name...)
	line = append(line, `":`...)
}

func field(what string, value uint64) {
	name(what)
	number(value)
}

func end(text string) {
	if line[len(line)-1] == ',' {
		line = line[:len(line)-1]
	}
	line = append(line, text...)
}

func newest(ring *[256]uint64) {
	line = append(line, '[')
	for back := uint32(0); back < stats.NumGC && back < 256; back++ {
		number(ring[(stats.NumGC+255-back)%256])
	}
	end("],")
}

// Needs little stack: a stack that grows here would be in no statistics that were said.
func say() {
	line = append(line[:0], '{')
	field("Mallocs", stats.Mallocs)
	field("Frees", stats.Frees)
	field("TotalAlloc", stats.TotalAlloc)
	field("HeapAlloc", stats.HeapAlloc)
	field("HeapObjects", stats.HeapObjects)
	field("HeapInuse", stats.HeapInuse)
	field("HeapIdle", stats.HeapIdle)
	field("HeapReleased", stats.HeapReleased)
	field("HeapSys", stats.HeapSys)
	field("StackInuse", stats.StackInuse)
	field("Sys", stats.Sys)
	field("StackSys", stats.StackSys)
	field("MSpanInuse", stats.MSpanInuse)
	field("MSpanSys", stats.MSpanSys)
	field("MCacheInuse", stats.MCacheInuse)
	field("MCacheSys", stats.MCacheSys)
	field("BuckHashSys", stats.BuckHashSys)
	field("GCSys", stats.GCSys)
	field("OtherSys", stats.OtherSys)
	field("NextGC", stats.NextGC)
	field("LastGC", stats.LastGC)
	field("PauseTotalNs", stats.PauseTotalNs)
	field("NumGC", uint64(stats.NumGC))
	field("NumForcedGC", uint64(stats.NumForcedGC))
	field("NumGoroutine", uint64(runtime.NumGoroutine()))
	name("GCCPUFraction")
	line = strconv.AppendFloat(line, stats.GCCPUFraction, 'g', -1, 64)
	line = append(line, ',')
	name("PauseNs")
	newest(&stats.PauseNs)
	name("PauseEnd")
	newest(&stats.PauseEnd)
	name("BySize")
	line = append(line, '[')
	for index := range stats.BySize {
		class := &stats.BySize[index]
		line = append(line, '[')
		number(uint64(class.Size))
		number(class.Mallocs)
		number(class.Frees)
		end("],")
	}
	end("],")
	name("Metrics")
	line = append(line, '{')
	for index := range samples {
		sample := &samples[index]
		if sample.Value.Kind() == metrics.KindUint64 {
			name(sample.Name)
			number(sample.Value.Uint64())
		}
	}
	end("},")
	name("Histograms")
	line = append(line, '{')
	for index := range samples {
		sample := &samples[index]
		if sample.Value.Kind() == metrics.KindFloat64Histogram {
			name(sample.Name)
			line = append(line, '[')
			for _, count := range sample.Value.Float64Histogram().Counts {
				number(count)
			}
			end("],")
		}
	}
	end("}}\n")
	os.Stdout.Write(line)
}

// A chain of all size classes, tiny objects and large ones, and nothing of it is kept for long.
func allocate(seed int) {
	var mine [64]any
	for i := seed; ; i++ {
		switch i % 4 {
		case 0:
			mine[i%64] = &node{}
		case 1:
			mine[i%64] = make([]byte, 1+i*31%2000)
		case 2:
			mine[i%64] = uint32(i) << 9
		case 3:
			if i%256 == 3 {
				mine[i%64] = make([]byte, 1+i*977%60000)
			}
		}
	}
}

func busy() {
	debug.SetGCPercent(20)
	for seed := 0; seed < 3; seed++ {
		go allocate(seed)
	}
	go func() {
		own := append([]metrics.Sample(nil), samples...)
		for i := 0; ; i++ {
			for j := 0; j < 100; j++ {
				metrics.Read(own)
			}
			runtime.GOMAXPROCS(1 + i%4)
			done := make(chan int)
			go func() { done <- 1 }()
			<-done
			time.Sleep(time.Millisecond)
		}
	}()
}

// Objects of all classes, with pointers and without, each somewhere else.
func spread(seed uint64, count int) {
	held := make([]any, count)
	for {
		for i := 0; i < 100+count/50; i++ {
			seed = seed*6364136223846793005 + 1442695040888963407
			// As many of each power of two.
			size := 8 + int(seed>>40&32767)>>(seed>>33%12)
			if seed>>63 == 0 {
				held[int(seed>>20)%count] = make([]byte, size)
			} else {
				held[int(seed>>20)%count] = make([]*node, 1+size/8)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func main() {
	for _, description := range metrics.All() {
		if description.Kind == metrics.KindUint64 || description.Name == "/gc/heap/allocs-by-size:bytes" ||
			description.Name == "/gc/heap/frees-by-size:bytes" {
			samples = append(samples, metrics.Sample{Name: description.Name})
		}
	}
	metrics.Read(samples)
	runtime.GC()
	isBusy := len(os.Args) > 1
	fmt.Printf("ready %d\n", os.Getpid())
	if len(os.Args) > 2 {
		count, err := strconv.Atoi(os.Args[2])
		if err != nil || count < 1 {
			panic("spread needs a number")
		}
		for i := 0; i < runtime.GOMAXPROCS(0); i++ {
			go spread(uint64(i), count)
		}
	} else if isBusy {
		busy()
	}
	for round := 0; ; {
		again := false
		for {
			if n, err := os.Stdin.Read(input[:]); err != nil || n == 0 {
				return
			}
			if input[0] == '\n' {
				break
			}
			again = again || input[0] == 'g' // no letter of the other
		}
		if !isBusy && !again {
			work(round)
			round++
			// Sweeping goes on in the background for a moment, and frees.
			time.Sleep(20 * time.Millisecond)
		}
		runtime.ReadMemStats(&stats)
		if !isBusy {
			metrics.Read(samples)
		}
		say()
	}
}
