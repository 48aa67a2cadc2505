package main

// How often each line allocates, over all workers. No two are equal, so that a mix-up shows.
const (
	tinyObjects     = 30_011
	boxedObjects    = 7_001
	smallObjects    = 20_021
	oddObjects      = 15_013
	pointerObjects  = 18_041
	headerObjects   = 10_037
	largeObjects    = 523
	growObjects     = 9_011
	concatObjects   = 12_037
	emptyCalls      = 5_003
	genericPlain    = 6_011
	genericPointers = 3_001
	sharedFirst     = 5_501
	sharedSecond    = 2_503
	inlinedFirst    = 8_009
	inlinedSecond   = 4_001
	inlinedThird    = 2_011
)

// worker is one of four goroutines. What it allocates goes into its own fields, so it escapes and there is no data race.
type worker struct {
	index   int
	bytes   []byte
	boxed   any
	number  uint64
	links   *links
	record  *record
	numbers []int64
	full    []int64
	text    string
	prefix  string
	suffix  string
	any     any
	zero    int
	_       [64]byte
}

// links is 64 bytes of pointers: class 64, no header.
type links [8]*links

// record is 640 bytes with pointers: with its 8-byte malloc header it needs class 704, not 640.
type record struct {
	next  *record
	words [79]uint64
}

var workers [4]worker

func (w *worker) prepare(index int) {
	w.index = index
	w.number = 1 << 40 // above 255, or the runtime would use its table of small numbers
	w.full = make([]int64, 64)
	w.prefix = "a prefix of 20 bytes"
	w.suffix = "13 bytes long"
}

// share splits total among the workers so that the shares add up.
func (w *worker) share(total int) int {
	share := total / len(workers)
	if w.index < total%len(workers) {
		share++
	}
	return share
}

// startWorkers allocates the closure of each `go` statement: it holds the receiver.
//
//go:noinline
func startWorkers() {
	for i := range workers {
		w := &workers[i]
		go w.run() //site:workers
	}
}

// run calls every site from one line, so each has one path unless it says otherwise.
func (w *worker) run() {
	for n := w.share(tinyObjects); n > 0; n-- {
		w.tiny()
	}
	for n := w.share(smallObjects); n > 0; n-- {
		w.small()
	}
	for n := w.share(pointerObjects); n > 0; n-- {
		w.pointers()
	}
	for n := w.share(headerObjects); n > 0; n-- {
		w.header()
	}
	for n := w.share(largeObjects); n > 0; n-- {
		w.large()
	}
	for n := w.share(oddObjects); n > 0; n-- {
		w.odd()
	}
	for n := w.share(boxedObjects); n > 0; n-- {
		w.box()
	}
	for n := w.share(growObjects); n > 0; n-- {
		w.grow()
	}
	for n := w.share(concatObjects); n > 0; n-- {
		w.concat()
	}
	for n := w.share(emptyCalls); n > 0; n-- {
		w.empty()
	}
	for n := w.share(genericPlain); n > 0; n-- {
		w.any = generic[[4]uint64]()
	}
	for n := w.share(genericPointers); n > 0; n-- {
		w.any = generic[[6]*links]()
	}
	for n := w.share(sharedFirst); n > 0; n-- {
		w.firstCaller()
	}
	for n := w.share(sharedSecond); n > 0; n-- {
		w.secondCaller()
	}
	w.inlineTwice(w.share(inlinedFirst), w.share(inlinedSecond))
	w.inlineOnce(w.share(inlinedThird))
}

// tiny: 5 bytes without pointers share 16-byte blocks with their neighbours. Bytes are as requested.
//
//go:noinline
func (w *worker) tiny() {
	w.bytes = make([]byte, 5) //site:tiny
}

// box: a number in an interface, 8 tiny bytes from runtime.convT64.
//
//go:noinline
func (w *worker) box() {
	w.boxed = w.number //site:boxed
}

//go:noinline
func (w *worker) small() {
	w.bytes = make([]byte, 48) //site:small
}

// odd: 100 bytes live in a slot of 112.
//
//go:noinline
func (w *worker) odd() {
	w.bytes = make([]byte, 100) //site:odd
}

//go:noinline
func (w *worker) pointers() {
	w.links = new(links) //site:pointers
}

//go:noinline
func (w *worker) header() {
	w.record = new(record) //site:header
}

// large: 102,400 bytes take 13 pages of 8 KiB.
//
//go:noinline
func (w *worker) large() {
	w.bytes = make([]byte, 100<<10) //site:large
}

// grow: 64 numbers are full, one more makes room for 128.
//
//go:noinline
func (w *worker) grow() {
	w.numbers = append(w.full, 1) //site:grow
}

// concat: 33 bytes by runtime.concatstrings, a slot of 48.
//
//go:noinline
func (w *worker) concat() {
	w.text = w.prefix + w.suffix //site:concat
}

// empty reaches mallocgc with size 0, which is no allocation.
//
//go:noinline
func (w *worker) empty() {
	w.bytes = make([]byte, w.zero) //site:empty
}

// generic is one line with two instantiations, 32 bytes without and 48 with pointers.
//
//go:noinline
func generic[T any]() any {
	return new(T) //site:generic
}

// shared has two callers, so two paths.
//
//go:noinline
func (w *worker) shared() {
	w.bytes = make([]byte, 128) //site:shared
}

//go:noinline
func (w *worker) firstCaller() {
	w.shared()
	w.zero = 0 // no tail call
}

//go:noinline
func (w *worker) secondCaller() {
	w.shared()
	w.zero = 0
}

// inlined is inlined at three places (`go build -gcflags=-m` says "inlining call to (*worker).inlined" thrice): one
// site, this line, with three paths.
func (w *worker) inlined() {
	w.bytes = make([]byte, 80) //site:inlined
}

//go:noinline
func (w *worker) inlineTwice(first, second int) {
	for n := first; n > 0; n-- {
		w.inlined()
	}
	for n := second; n > 0; n-- {
		w.inlined()
	}
}

//go:noinline
func (w *worker) inlineOnce(count int) {
	for n := count; n > 0; n-- {
		w.inlined()
	}
}
