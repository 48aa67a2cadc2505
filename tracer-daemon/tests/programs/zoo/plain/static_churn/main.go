// A heap of 100 MB that does not change, under 50 MB/s of garbage, a third of it in the same size class. Innocent.
package main

import "example.com/leakline/programs/zoo/truth"

type row struct {
	next  *row
	cells [1016]byte
}

func main() {
	run := truth.Start("static_churn")
	var table *row
	for i := 0; i < 100_000; i++ {
		table = &row{next: table}
	}
	last := table
	run.Garbage(30<<20, 256, 4096, 16384)
	run.Ready()
	run.Pace(20_000, func() {
		last = &row{next: table}
		last.cells[0]++
	})
}
