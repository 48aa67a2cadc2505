// Synctest links testing/synctest, as test binaries do: its runtime makes goroutines in a way of its own.
package main

import (
	"testing"
	"testing/synctest"
)

func main() {
	synctest.Test(new(testing.T), func(*testing.T) {})
}
