// A burst of 2 MB/s for 15 s, of which everything is dropped at its end, and then next to nothing: for two minutes no
// collection says that the memory is free. Innocent.
package main

import (
	"time"

	"example.com/leakline/programs/zoo/truth"
)

type answer struct {
	next *answer
	body [2040]byte
}

func main() {
	run := truth.Start("burst_idle")
	var answers *answer
	run.Ready()
	go func() {
		time.Sleep(15 * time.Second)
		run.Event("idle")
	}()
	started := time.Now()
	run.Pace(1000, func() {
		if time.Since(started) < 15*time.Second {
			answers = &answer{next: answers}
		} else {
			answers = nil
		}
	})
}
