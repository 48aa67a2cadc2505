// A sync.Map of tokens, 40 KB/s of 240 bytes, from which none is deleted when it expires.
package main

import (
	"sync"

	"example.com/leakline/programs/zoo/truth"
)

type token struct {
	owner *string
	bytes [232]byte
}

var tokens sync.Map

func issue(id int) {
	fresh := &token{}       //site:token
	tokens.Store(id, fresh) //also:token
}

func main() {
	run := truth.Start("sync_map")
	issued := run.Heap("token")
	each, id := truth.Of[token](), 0
	run.Garbage(2<<20, 1024, 8192)
	run.Ready()
	run.Pace(each.PerSecond(40e3), func() {
		issue(id)
		id++
		issued.Add(1, each)
	})
}
