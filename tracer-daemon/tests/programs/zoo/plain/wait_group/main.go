// A fan-out waits for two parts of which one returns without saying so: 10 goroutines/s wait for ever.
package main

import (
	"sync"

	"example.com/leakline/programs/zoo/truth"
)

func fanOut(answer []byte) {
	var parts sync.WaitGroup //also:waiter
	parts.Add(2)
	go func() {
		defer parts.Done()
		answer[0]++
	}()
	go func() {
		if answer[1] == 0 {
			return // Done is forgotten here
		}
		parts.Done()
	}()
	go func() { //site:waiter
		parts.Wait() //also:waiter
		answer[2]++
	}()
}

func main() {
	run := truth.Start("wait_group")
	waiters := run.Goroutines("waiter")
	run.Garbage(3<<20, 512, 4096)
	run.Ready()
	run.Pace(10, func() {
		fanOut(make([]byte, 3))
		waiters.AddCount(1)
	})
}
