// Two lines leak into the size class of 256 bytes, 300 KB/s and 60 KB/s, and a third turns over 2,000 objects a second
// in it.
package main

import "example.com/leakline/programs/zoo/truth"

type event struct {
	next *event
	text [240]byte
}

var (
	audit, trace *event
	window       [8000]*event
)

func record() { audit = &event{next: audit} } //site:audit

func follow() { trace = &event{next: trace} } //site:trace

func remember(i int) { window[i%len(window)] = &event{} }

func main() {
	run := truth.Start("two_leaks")
	audited, traced := run.Heap("audit"), run.Heap("trace")
	each, seen := truth.Of[event](), 0
	for range window {
		remember(seen)
		seen++
	}
	run.Garbage(10<<20, 1024, 4096)
	run.Ready()
	go run.Beside(2000, func() {
		remember(seen)
		seen++
	})
	go run.Beside(each.PerSecond(60e3), func() {
		follow()
		traced.Add(1, each)
	})
	run.Pace(each.PerSecond(300e3), func() {
		record()
		audited.Add(1, each)
	})
}
