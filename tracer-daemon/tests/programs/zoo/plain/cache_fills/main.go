// A cache that fills at 500 KB/s for 40 s and is full then: each new entry takes the place of an old one. Innocent;
// that it grows while it fills is true.
package main

import "example.com/leakline/programs/zoo/truth"

const (
	capacity  = 16_000
	perSecond = 400
)

type entry struct {
	key   int
	value [1248]byte
}

func main() {
	run := truth.Start("cache_fills")
	var (
		entries [capacity]*entry
		filled  int
	)
	run.Garbage(4<<20, 512, 4096)
	run.Ready()
	run.Pace(perSecond, func() {
		entries[filled%capacity] = &entry{key: filled}
		filled++
		if filled == capacity {
			run.Event("full")
		}
	})
}
