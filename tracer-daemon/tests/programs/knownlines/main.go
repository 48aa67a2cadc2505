// Knownlines allocates at marked lines, keeps a known part of what some of them allocate, and says how much of each it was: the
// target of the benches survival and shares.
//
//	knownlines -shape survival -collections 20 -for 60s
//	knownlines -shape skew -for 60s
//	knownlines -shape uneven -for 60s
//
// It prints one JSON line when it is ready and one every 50 ms from then on, sums since the beginning:
//
//	{"knownlines":"ready","unix_ms":…,"shape":"survival","go":"go1.27.3"}
//	{"knownlines":"truth","unix_ms":…,"gc":7,"lines":[{"name":"tenth","objects":195,"bytes":18720,"kept":19},…]}
//
// Bytes are those of the slots. A line carries its name at its end, `//site:NAME`.
//
// survival: one goroutine is always busy and allocates 83,000 objects a second at six lines in random order. It keeps what chance says: nothing of
// `none`, a hundredth, a tenth, half, all; what `held` allocates is kept through four collections and then forgotten. Two lines share a size
// class. Collections are started so many times a second and by nothing else.
//
// skew: one goroutine, as fast as it can: lines `ten`, `one` and `tenth_small` in the class of 64 bytes at 10 : 1 : 0.1, `other` with 1 of 256 bytes and
// `large` with 0.1 of 1,024 bytes, in random order. Nothing is kept.
//
// uneven: three lines in the class of 64 bytes. One goroutine allocates at `fast` as fast as it can, another works for about 5 us before each
// object at `slow`, and 2,000 goroutines a second are started that allocate ten objects at `short` and end. Nothing is kept.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

const tellEvery = 50 * time.Millisecond

// line is what is told of one: written by the goroutines that allocate there.
type line struct {
	name    string
	bytes   uint64 // of a slot
	objects uint64
	kept    uint64
	_       [96]byte // a cache line of its own
}

var lines []*line

func newLine(name string, bytes uint64) *line {
	l := &line{name: name, bytes: bytes}
	lines = append(lines, l)
	return l
}

func (l *line) add(objects uint64) { atomic.AddUint64(&l.objects, objects) }

// random is xorshift (Marsaglia 2003): good enough for what is kept, and no allocation.
type random uint64

func (r *random) below(bound uint64) uint64 {
	x := uint64(*r)
	x ^= x << 13
	x ^= x >> 7
	x ^= x << 17
	*r = random(x)
	return (x >> 11) % bound
}

func main() {
	shape := flag.String("shape", "survival", "survival, skew or uneven")
	perSecond := flag.Float64("collections", 20, "collections per second of survival")
	length := flag.Duration("for", time.Minute, "how long")
	flag.Parse()
	var begin func()
	switch *shape {
	case "survival":
		if *perSecond <= 0 || *perSecond > 1000 {
			fmt.Fprintln(os.Stderr, "knownlines: -collections is out of its bounds")
			os.Exit(2)
		}
		begin = survival(time.Duration(float64(time.Second) / *perSecond))
	case "skew":
		begin = skew()
	case "uneven":
		begin = uneven()
	default:
		fmt.Fprintln(os.Stderr, "knownlines: no such shape")
		os.Exit(2)
	}
	begin()
	say(map[string]any{"knownlines": "ready", "unix_ms": unixMs(), "shape": *shape, "go": runtime.Version()})
	tell(time.Now().Add(*length))
}

func unixMs() float64 { return float64(time.Now().UnixMicro()) / 1000 }

func say(what map[string]any) {
	if err := json.NewEncoder(os.Stdout).Encode(what); err != nil {
		os.Exit(1) // nobody reads: the runner has ended
	}
}

func tell(end time.Time) {
	type told struct {
		Name    string `json:"name"`
		Objects uint64 `json:"objects"`
		Bytes   uint64 `json:"bytes"`
		Kept    uint64 `json:"kept"`
	}
	cycles := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	all := make([]told, len(lines))
	for tick := time.NewTicker(tellEvery); time.Now().Before(end); <-tick.C {
		metrics.Read(cycles)
		for i, l := range lines {
			objects := atomic.LoadUint64(&l.objects)
			all[i] = told{l.name, objects, objects * l.bytes, atomic.LoadUint64(&l.kept)}
		}
		say(map[string]any{"knownlines": "truth", "unix_ms": unixMs(), "gc": cycles[0].Value.Uint64(), "lines": all})
	}
}

// ---- survival

type (
	noneObject  struct{ b [96]byte }
	tenthObject struct{ b [96]byte }
	hundredth   struct {
		next *hundredth
		b    [56]byte
	}
	half struct {
		next *half
		b    [120]byte
	}
	all struct {
		next *all
		b    [40]byte
	}
	held struct{ b [80]byte }
)

//go:noinline
func newNone() *noneObject { return new(noneObject) } //site:none

//go:noinline
func newHundredth() *hundredth { return new(hundredth) } //site:hundredth

//go:noinline
func newTenth() *tenthObject { return new(tenthObject) } //site:tenth

//go:noinline
func newHalf() *half { return new(half) } //site:half

//go:noinline
func newAll() *all { return new(all) } //site:all

//go:noinline
func newHeld() *held { return new(held) } //site:held

// kept holds what stays in chunks: a growing slice would copy.
type chunk[T any] [512]*T

type keeper[T any] struct {
	chunks []*chunk[T]
	used   int
	last   *T // what is not kept lives until the next one comes
}

func (k *keeper[T]) take(l *line, object *T, keep bool) {
	l.add(1)
	if !keep {
		k.last = object
		return
	}
	if len(k.chunks) == 0 || k.used == len(chunk[T]{}) {
		k.chunks = append(k.chunks, new(chunk[T]))
		k.used = 0
	}
	k.chunks[len(k.chunks)-1][k.used] = object
	k.used++
	atomic.AddUint64(&l.kept, 1)
}

// Everything that stays, by line.
var keepers struct {
	none      keeper[noneObject]
	hundredth keeper[hundredth]
	tenth     keeper[tenthObject]
	half      keeper[half]
	all       keeper[all]
	// What was born since the last collections, by their number.
	held [heldCycles][]*held
}

// Collections through which what is held lives.
const heldCycles = 4

var collected uint64

func survival(period time.Duration) func() {
	// Collections come when this says so, and at no other time.
	debug.SetGCPercent(-1)
	none, hundredth, tenth := newLine("none", 96), newLine("hundredth", 64), newLine("tenth", 96)
	half, all, held := newLine("half", 128), newLine("all", 48), newLine("held", 80)
	// Of 83 objects, as many of each line.
	var wheel []*line
	for l, share := range map[*line]int{none: 15, hundredth: 50, tenth: 10, half: 2, all: 1, held: 5} {
		for i := 0; i < share; i++ {
			wheel = append(wheel, l)
		}
	}
	step := func(dice *random) {
		switch l := wheel[dice.below(uint64(len(wheel)))]; l {
		case none:
			keepers.none.take(l, newNone(), false)
		case hundredth:
			keepers.hundredth.take(l, newHundredth(), dice.below(100) == 0)
		case tenth:
			keepers.tenth.take(l, newTenth(), dice.below(10) == 0)
		case half:
			keepers.half.take(l, newHalf(), dice.below(2) == 0)
		case all:
			keepers.all.take(l, newAll(), true)
		case held:
			l.add(1)
			slot := &keepers.held[atomic.LoadUint64(&collected)%uint64(len(keepers.held))]
			*slot = append(*slot, newHeld())
		}
	}
	return func() {
		go func() {
			for due := time.Now(); ; time.Sleep(time.Until(due)) {
				runtime.GC()
				atomic.AddUint64(&collected, 1)
				if due = due.Add(period); due.Before(time.Now()) {
					due = time.Now() // it cannot keep up: it tells how many there were
				}
			}
		}()
		go func() {
			const perSecond = 83_000
			dice := random(0x9e3779b97f4a7c15)
			begin, done, seen := time.Now(), 0, uint64(0)
			for {
				if now := atomic.LoadUint64(&collected); now != seen {
					// What was born so many collections ago goes.
					seen = now
					keepers.held[now%uint64(len(keepers.held))] = nil
				}
				due := int(time.Since(begin).Seconds() * perSecond)
				if due-done > perSecond/10 {
					done = due - perSecond/10 // it was held up: it does not catch up at a rush
				}
				for ; done < due; done++ {
					step(&dice)
				}
				work(1000)
			}
		}()
	}
}

// About a nanosecond a round.
//
//go:noinline
func work(rounds int) (sum int) {
	for i := 0; i < rounds; i++ {
		sum += i ^ sum<<1
	}
	return sum
}

// ---- skew and uneven

type (
	small  struct{ b [64]byte }
	middle struct{ b [256]byte }
	big    struct{ b [1024]byte }
)

// What was allocated last, so that it is on the heap; each goroutine has its own.
type sink struct {
	small  *small
	middle *middle
	big    *big
	_      [104]byte
}

//go:noinline
func newTen() *small { return new(small) } //site:ten

//go:noinline
func newOne() *small { return new(small) } //site:one

//go:noinline
func newTenthSmall() *small { return new(small) } //site:tenth_small

//go:noinline
func newOther() *middle { return new(middle) } //site:other

//go:noinline
func newLarge() *big { return new(big) } //site:large

//go:noinline
func newFast() *small { return new(small) } //site:fast

//go:noinline
func newSlow() *small { return new(small) } //site:slow

//go:noinline
func newShort() *small { return new(small) } //site:short

// Alive for ever and without pointers, so that collections are as rare as in a service of that size.
var ballast []byte

func service() {
	ballast = make([]byte, 128<<20)
	debug.SetGCPercent(200)
}

// Objects between two times that they are counted: counting each would cost more than to allocate it.
const batch = 64

func skew() func() {
	service()
	ten, one, tenth := newLine("ten", 64), newLine("one", 64), newLine("tenth_small", 64)
	other, large := newLine("other", 256), newLine("large", 1024)
	return func() {
		go func() {
			dice, own := random(0x2545f4914f6cdd1d), new(sink)
			for {
				var counts [5]uint64
				for i := 0; i < batch; i++ {
					// Of 122: 100, 10, 1, 10, 1.
					switch pick := dice.below(122); {
					case pick < 100:
						own.small = newTen()
						counts[0]++
					case pick < 110:
						own.small = newOne()
						counts[1]++
					case pick < 111:
						own.small = newTenthSmall()
						counts[2]++
					case pick < 121:
						own.middle = newOther()
						counts[3]++
					default:
						own.big = newLarge()
						counts[4]++
					}
				}
				for i, l := range [...]*line{ten, one, tenth, other, large} {
					if counts[i] > 0 {
						l.add(counts[i])
					}
				}
			}
		}()
	}
}

func uneven() func() {
	service()
	fast, slow, short := newLine("fast", 64), newLine("slow", 64), newLine("short", 64)
	return func() {
		go func() {
			for own := new(sink); ; fast.add(batch) {
				for i := 0; i < batch; i++ {
					own.small = newFast()
				}
			}
		}()
		go func() {
			for own := new(sink); ; slow.add(1) {
				work(5000)
				own.small = newSlow()
			}
		}()
		go func() {
			const perTick, objects = 10, 10
			for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
				for i := 0; i < perTick; i++ {
					go func() {
						own := new(sink)
						for i := 0; i < objects; i++ {
							own.small = newShort()
						}
						short.add(objects)
						runtime.KeepAlive(own)
					}()
				}
			}
		}()
	}
}
