//go:build go1.23

package main

import "iter"

const pulled = 331

// pull starts coroutines: goroutines that no go statement starts and that the scheduler is not told of.
//
//go:noinline
func pull() {
	for i := 0; i < pulled; i++ {
		next, stop := iter.Pull(values) //site:pulled
		if i%3 != 0 {
			next()
		}
		stop()
	}
	// The go statement, as it were, is the call of newcoro in iter.Pull.
	count := line("pulled", "iter.Pull[...]", "main.pull")
	count.Created += pulled
	count.Exited += pulled
}

func values(yield func(int) bool) {
	_ = yield(1) && yield(2)
}
