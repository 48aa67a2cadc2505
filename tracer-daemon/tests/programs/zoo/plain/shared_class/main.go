// Three lines share the size class of 512 bytes: a leak of 100 KB/s, a window of the last 4,000 messages at twice that, and
// garbage at ten times that.
package main

import "example.com/leakline/programs/zoo/truth"

type message struct {
	next *message
	text [480]byte
}

var (
	audit  []*message
	recent [4000]*message
	parsed *message
)

func keepForAudit() {
	entry := &message{}          //site:entry
	audit = append(audit, entry) //also:entry
}

func keepForAWhile(i int) { recent[i%len(recent)] = &message{} }

func parse() { parsed = &message{} }

func main() {
	run := truth.Start("shared_class")
	entry := run.Heap("entry")
	each, seen := truth.Of[message](), 0
	for range recent {
		keepForAWhile(seen)
		seen++
	}
	run.Garbage(2<<20, 8192)
	run.Ready()
	go run.Beside(400, func() {
		keepForAWhile(seen)
		seen++
	})
	go run.Beside(2000, parse)
	run.Pace(200, func() {
		keepForAudit()
		entry.Add(1, each)
	})
}
