// GOGC=400: a window of 20 MB that turns over in 5 s, and a heap of five times that between collections. Innocent.
package main

import (
	"runtime/debug"

	"example.com/leakline/programs/zoo/truth"
)

type sample struct{ values [256]float64 }

func measured() *sample {
	fresh := new(sample)
	fresh.values[0] = 1 // so that its page is there
	return fresh
}

func main() {
	run := truth.Start("gogc_400")
	debug.SetGCPercent(400)
	var window [10_000]*sample
	turn := 0
	for ; turn < len(window); turn++ {
		window[turn] = measured()
	}
	run.Garbage(20<<20, 512, 4096)
	run.Ready()
	run.Pace(2000, func() {
		window[turn%len(window)] = measured()
		turn++
	})
}
