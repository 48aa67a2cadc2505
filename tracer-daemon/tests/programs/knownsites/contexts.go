//go:build go1.21

package main

import "context"

// contextsAreBuilt tells the truth whether this Go has context.AfterFunc.
const contextsAreBuilt = true

var cancels [contexts]context.CancelFunc

// prepareContexts makes contexts, so that cancelling them in the phase allocates nothing.
func prepareContexts() {
	for i := range cancels {
		var ctx context.Context
		ctx, cancels[i] = context.WithCancel(context.Background())
		context.AfterFunc(ctx, end)
	}
}

// cancelContexts starts goroutines from the standard library with this package above it on the stack.
//
//go:noinline
func cancelContexts() {
	for _, cancel := range cancels {
		cancel() //site:contexts
	}
}
