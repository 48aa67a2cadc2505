// Cpuprofile writes a CPU profile of a program that does nothing but allocate and start goroutines: with it
// (`go build -pgo=FILE`) the compiler inlines in the runtime's allocator whatever it can.
//
//	cpuprofile FILE
//
// Runs for 3 seconds of two processors. The profiles beside this file were made once on an idle machine, one by each version
// of Go that the tests use:
//
//	GOTOOLCHAIN=go1.27.3 CGO_ENABLED=0 go build -trimpath -o /tmp/cpuprofile . && /tmp/cpuprofile go1.27.pgo
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"
)

const duration = 3 * time.Second

type node struct {
	next *node
	data [6]uint64
}

type large struct {
	next  *large
	words [100]uint64
}

// sinks holds what must escape, one a worker.
type sinks struct {
	bytes  []byte
	node   *node
	large  *large
	boxed  any
	text   string
	number uint64
	_      [64]byte
}

func (s *sinks) work(until time.Time) {
	for round := 0; time.Now().Before(until); round++ {
		for i := 0; i < 1000; i++ {
			s.bytes = make([]byte, 5+i%60)
			s.node = &node{next: s.node}
			if i%50 == 0 {
				s.node = nil
			}
			s.number = uint64(i) << 20
			s.boxed = s.number
			s.large = &large{}
			s.text = string(s.bytes)
		}
		s.bytes = make([]byte, 64<<10)
		var done sync.WaitGroup
		for i := 0; i < 100; i++ {
			done.Add(1)
			go done.Done()
		}
		done.Wait()
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: cpuprofile FILE")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "cpuprofile:", err)
		os.Exit(1)
	}
}

func run(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(2)
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	until := time.Now().Add(duration)
	var workers sync.WaitGroup
	for i := 0; i < 2; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			new(sinks).work(until)
		}()
	}
	workers.Wait()
	pprof.StopCPUProfile()
	return file.Close()
}
