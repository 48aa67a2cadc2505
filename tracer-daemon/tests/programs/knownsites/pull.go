//go:build go1.23 || goexperiment.rangefunc

package main

import "iter"

// pullIsBuilt tells the truth whether this Go has iter.Pull.
const pullIsBuilt = true

// pullAll starts coroutines: goroutines that are created by runtime.newcoro and handed control without the scheduler.
// All are stopped, one third before the first value, the others after one.
//
//go:noinline
func pullAll() {
	for i := 0; i < pulled; i++ {
		next, stop := iter.Pull(twoValues) //site:pulled
		if i%3 != 0 {
			next()
		}
		stop()
	}
}

// twoValues is a function, not a closure, so handing it to Pull allocates nothing.
func twoValues(yield func(int) bool) {
	_ = yield(1) && yield(2)
}
