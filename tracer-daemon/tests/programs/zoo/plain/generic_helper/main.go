// One generic helper is called from three places with types of 320 bytes. What the first keeps for ever is 100 KB/s;
// the second makes three times as much garbage, and the third the last 3,000.
package main

import "example.com/leakline/programs/zoo/truth"

type order struct{ words [40]int64 }
type quote struct{ words [40]int64 }
type visit struct{ words [40]int64 }

type kept struct {
	next  *kept
	order *order
}

var (
	orders *kept
	quoted *quote
	recent [3000]*visit
)

func boxed[T any](value T) *T {
	box := new(T) //site:box
	*box = value
	return box
}

func main() {
	run := truth.Start("generic_helper")
	boxes := run.Heap("box")
	each, visits := truth.Of[order](), 0
	look := func() {
		recent[visits%len(recent)] = boxed(visit{})
		visits++
	}
	for range recent {
		look()
	}
	run.Garbage(3<<20, 1024, 8192)
	run.Ready()
	go run.Beside(900, func() { quoted = boxed(quote{}) })
	go run.Beside(400, look)
	run.Pace(each.PerSecond(100e3), func() {
		orders = &kept{orders, boxed(order{})} //also:box //path:box
		boxes.Add(1, each)
	})
}
