// Batches of 2 MB/s that are collected for 5 s and then dropped at once. Innocent.
package main

import "example.com/leakline/programs/zoo/truth"

type row struct {
	next  *row
	cells [1016]byte
}

var batch *row

func main() {
	run := truth.Start("sawtooth")
	rows := 0
	run.Garbage(5<<20, 512, 4096)
	run.Ready()
	run.Pace(2000, func() {
		batch = &row{next: batch}
		if rows++; rows%10_000 == 0 {
			batch = nil
		}
	})
}
