// Connections take a small buffer from a pool and keep it. Now and then one gets a large message, and its buffer is
// large for ever: 400 KB/s, in steps of 16 KB for 1 KB.
package main

import (
	"bytes"
	"sync"

	"example.com/leakline/programs/zoo/truth"
)

const connections = 6000

var buffers = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, 1024)) }}

type connection struct{ buffer *bytes.Buffer }

func (c *connection) receive(message []byte) {
	c.buffer.Reset()
	c.buffer.Write(message) //site:grown
}

func main() {
	run := truth.Start("pool_grown")
	grown := run.Heap("grown")
	all := make([]connection, connections)
	for i := range all {
		all[i].buffer = buffers.Get().(*bytes.Buffer)
	}
	large, next := make([]byte, 14<<10), 0
	probe := bytes.NewBuffer(make([]byte, 0, 1024))
	probe.Write(large)
	each := truth.Plain(probe.Cap())
	run.Garbage(12<<20, 512, 4096)
	run.Ready()
	run.Pace(each.PerSecond(400e3), func() {
		all[next].receive(large)
		next++
		grown.Add(1, each)
	})
}
