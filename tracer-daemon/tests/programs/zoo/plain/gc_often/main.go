// About 100 collections a second: a heap of 1 MB with GOGC=5, and 80 MB/s of garbage. Innocent.
package main

import (
	"runtime/debug"

	"example.com/leakline/programs/zoo/truth"
)

type sample struct{ values [64]float64 }

func measured() *sample {
	fresh := new(sample)
	fresh.values[0] = 1 // so that its page is there
	return fresh
}

func main() {
	run := truth.Start("gc_often")
	debug.SetGCPercent(5)
	var window [1000]*sample
	turn := 0
	for ; turn < len(window); turn++ {
		window[turn] = measured()
	}
	run.Garbage(80<<20, 512, 2048)
	run.Ready()
	run.Pace(500, func() {
		window[turn%len(window)] = measured()
		turn++
	})
}
