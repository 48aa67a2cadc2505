// Package truth lets a program of the zoo do something at a steady pace and say exactly what it has leaked so far.
//
// A program declares its leaks, prepares whatever it needs, and calls [Run.Ready]; from then on it prints one JSON line
// a second on standard output until -for has passed, and exits. Standard output holds nothing else:
//
//	{"zoo":"ready","unix_ms":…,"case":"global_slice","go":"go1.26.6","leaks":[{"name":"record","kind":"heap"}]}
//	{"zoo":"truth","unix_ms":…,"gc":7,"leaks":[{"name":"record","objects":195,"bytes":199680,"sizes":{"1024":199680}}]}
//	{"zoo":"event","unix_ms":…,"event":"full"}
//	{"zoo":"end",…} as "truth"
//
// Numbers are gauges: what lives because of the leak, with what was leaked before Ready. Bytes are those of the slots that the objects
// lie in; slot 0 stands for objects that have a span each. Which line it is says the source: the end of the line carries `//site:NAME`. Lines that truly grow with
// it, but by an amount that is not counted (the array of a slice, buckets of a map), carry `//also:NAME`. Where the lines are the
// standard library's, the leak names functions.
//
// With the build tag `sampler` the runtime's heap profile is linked, as in services that import net/http/pprof.
package truth

import (
	"encoding/json"
	"flag"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync"
	"time"
)

// Steps of a pace: small, so that a leak is smooth.
const ticksPerSecond = 20

// Garbage is made in smaller steps.
const garbageTicksPerSecond = 100

// Run is one run of a program.
type Run struct {
	name    string
	length  time.Duration
	started time.Time
	leaks   []*Leak
	printed sync.Mutex
}

// Leak is what one or several lines leak.
type Leak struct {
	name, kind string
	functions  []string
	mu         sync.Mutex
	objects    float64
	sizes      map[int]float64
}

// Start parses the arguments.
func Start(name string) *Run {
	length := flag.Duration("for", 180*time.Second, "how long it runs after it is ready")
	flag.Parse()
	return &Run{name: name, length: *length}
}

// Heap declares a leak of the heap by the lines that are marked `//site:NAME`.
func (r *Run) Heap(name string) *Leak { return r.leak(name, "heap", nil) }

// HeapOf declares a leak of the heap by functions that carry no mark: all whose name begins with one of these, besides
// the lines that are marked.
func (r *Run) HeapOf(name string, functions ...string) *Leak { return r.leak(name, "heap", functions) }

// Goroutines declares a leak of goroutines by the `go` statement that is marked `//site:NAME`.
func (r *Run) Goroutines(name string) *Leak { return r.leak(name, "goroutine", nil) }

// GoroutinesOf declares a leak of goroutines that these functions start.
func (r *Run) GoroutinesOf(name string, functions ...string) *Leak {
	return r.leak(name, "goroutine", functions)
}

// Native declares a leak of memory that Go's runtime knows nothing of.
func (r *Run) Native(name string) *Leak { return r.leak(name, "native", nil) }

func (r *Run) leak(name, kind string, functions []string) *Leak {
	l := &Leak{name: name, kind: kind, functions: functions, sizes: map[int]float64{}}
	r.leaks = append(r.leaks, l)
	return l
}

// Add says that n more such objects live than before; n is negative where some have died.
func (l *Leak) Add(n int, each Footprint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.objects += float64(n) * each.objects()
	for slot, bytes := range each {
		l.sizes[slot] += float64(n) * bytes
	}
}

// AddCount is Add for what has no size: goroutines.
func (l *Leak) AddCount(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.objects += float64(n)
}

// Ready says that preparations are over: whatever fills up is full, and what grows from now on is a leak.
func (r *Run) Ready() {
	type declared struct {
		Name      string   `json:"name"`
		Kind      string   `json:"kind"`
		Functions []string `json:"functions,omitempty"`
	}
	leaks := []declared{}
	for _, l := range r.leaks {
		leaks = append(leaks, declared{l.name, l.kind, l.functions})
	}
	runtime.GC()
	r.started = time.Now()
	r.print(map[string]any{
		"zoo": "ready", "unix_ms": r.started.UnixMilli(), "case": r.name, "go": runtime.Version(), "leaks": leaks,
	})
	r.say("truth")
	go r.tell()
}

// Event says that something happened that a reader of the truth must know, such as "full".
func (r *Run) Event(event string) {
	r.print(map[string]any{"zoo": "event", "unix_ms": time.Now().UnixMilli(), "event": event})
}

// Wait ends the program when its time is over.
func (r *Run) Wait() {
	time.Sleep(time.Until(r.started.Add(r.length)))
	r.say("end")
	os.Exit(0)
}

// Pace does step so many times a second in small steps until the end of the run, and then ends the program.
func (r *Run) Pace(perSecond float64, step func()) {
	go r.Beside(perSecond, step)
	r.Wait()
}

// Beside is Pace for what a program does beside its main work: it returns at the end of the run.
func (r *Run) Beside(perSecond float64, step func()) {
	r.paced(perSecond, ticksPerSecond, step)
}

func (r *Run) paced(perSecond float64, ticks int, step func()) {
	started := time.Now()
	tick := time.NewTicker(time.Second / time.Duration(ticks))
	defer tick.Stop()
	for done := 0.0; ; {
		<-tick.C
		passed := time.Since(started)
		if passed > r.length {
			return
		}
		for ; done < passed.Seconds()*perSecond; done++ {
			step()
		}
	}
}

// Hides from the compiler that garbage is garbage.
var sink [][]byte

// Garbage makes so much of it from now on, so that collections are as frequent as they are in a service. It has no
// pointers and these sizes.
func (r *Run) Garbage(bytesPerSecond int, sizes ...int) {
	round := 0
	for _, size := range sizes {
		round += size
	}
	sink = make([][]byte, len(sizes))
	go func() {
		tick := time.NewTicker(time.Second / garbageTicksPerSecond)
		started := time.Now()
		for done := 0.0; ; {
			<-tick.C
			for ; done < time.Since(started).Seconds()*float64(bytesPerSecond); done += float64(round) {
				for i, size := range sizes {
					sink[i] = make([]byte, size)
				}
			}
		}
	}()
}

func (r *Run) tell() {
	for second := 1; ; second++ {
		time.Sleep(time.Until(r.started.Add(time.Duration(second) * time.Second)))
		r.say("truth")
	}
}

func (r *Run) say(what string) {
	type now struct {
		Name    string             `json:"name"`
		Objects float64            `json:"objects"`
		Bytes   float64            `json:"bytes"`
		Sizes   map[string]float64 `json:"sizes"`
	}
	leaks := []now{}
	at := time.Now()
	for _, l := range r.leaks {
		l.mu.Lock()
		seen := now{Name: l.name, Objects: l.objects, Sizes: map[string]float64{}}
		for slot, bytes := range l.sizes {
			seen.Bytes += bytes
			seen.Sizes[strconv.Itoa(slot)] = bytes
		}
		l.mu.Unlock()
		leaks = append(leaks, seen)
	}
	r.print(map[string]any{"zoo": what, "unix_ms": at.UnixMilli(), "gc": collections(), "leaks": leaks})
}

// Collections that have ended. Not by runtime.ReadMemStats, which stops the world.
func collections() uint64 {
	sample := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func (r *Run) print(line map[string]any) {
	r.printed.Lock()
	defer r.printed.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		os.Exit(1) // nobody reads: the runner has ended
	}
}
