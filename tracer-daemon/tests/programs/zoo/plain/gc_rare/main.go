// One collection in 30 s: a heap of 60 MB of which 1 MB/s is replaced, and 1 MB/s of garbage. Innocent.
package main

import "example.com/leakline/programs/zoo/truth"

type sample struct{ values [128]float64 }

func measured() *sample {
	fresh := new(sample)
	fresh.values[0] = 1 // so that its page is there
	return fresh
}

func main() {
	run := truth.Start("gc_rare")
	var window [60_000]*sample
	turn := 0
	for ; turn < len(window); turn++ {
		window[turn] = measured()
	}
	run.Garbage(1<<20, 512, 4096)
	run.Ready()
	run.Pace(1000, func() {
		window[turn%len(window)] = measured()
		turn++
	})
}
