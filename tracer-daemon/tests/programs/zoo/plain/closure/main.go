// Hooks that are never removed hold the requests that registered them: 80 KB/s of requests of 900 bytes.
package main

import "example.com/leakline/programs/zoo/truth"

type request struct {
	headers [100]*string
	id      int
}

var hooks []func() int

func handle(id int) {
	arrived := &request{id: id}                             //site:request
	hooks = append(hooks, func() int { return arrived.id }) //also:request
}

func main() {
	run := truth.Start("closure")
	requests := run.Heap("request")
	hooks = make([]func() int, 0, 40_000)
	each, id := truth.Of[request](), 0
	run.Garbage(3<<20, 512, 4096)
	run.Ready()
	run.Pace(each.PerSecond(80e3), func() {
		handle(id)
		id++
		requests.Add(1, each)
	})
}
