// Each request derives a context from that of the server and never cancels it, so that the server knows it for ever:
// 120 KB/s of requests of 1,500 bytes.
package main

import (
	"context"

	"example.com/leakline/programs/zoo/truth"
)

type request struct {
	path *string
	body [1492]byte
}

type key struct{}

func handle(server context.Context) {
	arrived := &request{}                               //site:request
	valued := context.WithValue(server, key{}, arrived) //also:request
	ctx, _ := context.WithCancel(valued)                //also:request
	work(ctx)
}

func work(ctx context.Context) { ctx.Value(key{}).(*request).body[0]++ }

func main() {
	run := truth.Start("context_no_cancel")
	requests := run.Heap("request")
	server, stop := context.WithCancel(context.Background())
	defer stop()
	each := truth.Of[request]()
	run.Garbage(4<<20, 512, 4096)
	run.Ready()
	run.Pace(each.PerSecond(120e3), func() {
		handle(server)
		requests.Add(1, each)
	})
}
