//go:build go1.23

package main

import "iter"

// coroutine leaves one suspended.
func coroutine() {
	next, _ := iter.Pull(func(yield func(int) bool) {
		for i := 0; yield(i); i++ {
		}
	})
	next()
	objects["coroutine"] = &next
}
