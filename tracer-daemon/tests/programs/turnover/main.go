// Turnover starts and ends known numbers of goroutines at known lines, when it is told to on its standard input:
//
//	phase   some end at once, some stay, coroutines come and go; then it says how many began and ended at each line so far
//	end     those that stayed end; then the same
//	storm   from now on goroutines begin and end as fast as they can
//
// With -spin a thread is busy all the time, so that there is CPU time of which a share can be spent.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync"
)

const (
	short = 613
	kept  = 97
	timed = 211
)

// Line is what became of the goroutines of one go statement.
type Line struct {
	Name     string `json:"name"`
	Function string `json:"function"`
	Created  int    `json:"created"`
	Exited   int    `json:"exited"`
	// Above is a function further up in the creation stack.
	Above string `json:"above"`
}

var lines = map[string]*Line{}

func line(name, function, above string) *Line {
	if lines[name] == nil {
		lines[name] = &Line{Name: name, Function: function, Above: above}
	}
	return lines[name]
}

var (
	leave = make(chan struct{})
	stay  sync.WaitGroup
	sum   uint64
)

//go:noinline
func startShort() {
	var all sync.WaitGroup
	all.Add(short)
	for i := 0; i < short; i++ {
		go all.Done() //site:short
	}
	all.Wait()
	count := line("short", "main.startShort", "main.phase")
	count.Created += short
	count.Exited += short
}

//go:noinline
func startKept() {
	stay.Add(kept)
	for i := 0; i < kept; i++ {
		go func() { //site:kept
			<-leave
			stay.Done()
		}()
	}
	line("kept", "main.startKept", "main.phase").Created += kept
}

// spawn is a helper that two functions share: one go statement, two stacks.
//
//go:noinline
func spawn(all *sync.WaitGroup, count int) {
	all.Add(count)
	for i := 0; i < count; i++ {
		go all.Done() //site:spawned
	}
	counted := line("spawned", "main.spawn", "main.often")
	counted.Created += count
	counted.Exited += count
}

//go:noinline
func seldom(all *sync.WaitGroup) { spawn(all, timed/10) }

//go:noinline
func often(all *sync.WaitGroup) { spawn(all, timed) }

//go:noinline
func phase() {
	startShort()
	startKept()
	var all sync.WaitGroup
	seldom(&all)
	often(&all)
	all.Wait()
	pull()
}

func storm() {
	var all sync.WaitGroup
	for {
		all.Add(16)
		for i := 0; i < 16; i++ {
			go all.Done()
		}
		all.Wait()
	}
}

func tell() {
	// Done is called before the end: those that have called it are at their end when nobody else is there.
	want := runtime.NumGoroutine()
	for {
		runtime.Gosched()
		if now := runtime.NumGoroutine(); now >= want && now <= 2+staying() {
			break
		} else {
			want = now
		}
	}
	said := make([]*Line, 0, len(lines))
	for _, line := range lines {
		said = append(said, line)
	}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		panic(err)
	}
}

func staying() int {
	kept := lines["kept"]
	if kept == nil {
		return 0
	}
	return kept.Created - kept.Exited
}

func main() {
	spin := flag.Bool("spin", false, "a thread is busy all the time")
	flag.Parse()
	if *spin {
		go func() {
			for {
				sum++
			}
		}()
	}
	fmt.Println("ready")
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		switch input.Text() {
		case "phase":
			phase()
			tell()
		case "end":
			close(leave)
			stay.Wait()
			leave = make(chan struct{})
			kept := line("kept", "main.startKept", "main.phase")
			kept.Exited = kept.Created
			tell()
		case "storm":
			go storm()
			fmt.Println("storming")
		}
	}
}
