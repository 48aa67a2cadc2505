// Each transfer comes with its own account locked and waits for the one before, whose lock is never given back: a chain
// that grows by 15 goroutines/s.
package main

import (
	"sync"

	"example.com/leakline/programs/zoo/truth"
)

type account struct {
	mu      sync.Mutex
	cents   int
	history [4]string
}

func transfer(from, to *account) {
	defer from.mu.Unlock()
	to.mu.Lock() //also:transfer
	defer to.mu.Unlock()
	from.cents--
	to.cents++
}

func main() {
	run := truth.Start("mutex_chain")
	transfers := run.Goroutines("transfer")
	last := &account{}
	last.mu.Lock() // and never Unlock
	run.Garbage(3<<20, 1024, 4096)
	run.Ready()
	run.Pace(15, func() {
		next := &account{} //also:transfer
		next.mu.Lock()
		go transfer(next, last) //site:transfer
		last = next
		transfers.AddCount(1)
	})
}
