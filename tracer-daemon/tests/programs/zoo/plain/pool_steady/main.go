// Buffers that grew to 16 KB once go to a sync.Pool and come back, 2,000 times a second. Innocent.
package main

import (
	"bytes"
	"sync"

	"example.com/leakline/programs/zoo/truth"
)

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

var chunk [14 << 10]byte

func answer() int {
	buffer := buffers.Get().(*bytes.Buffer)
	buffer.Reset()
	buffer.Write(chunk[:])
	written := buffer.Len()
	buffers.Put(buffer)
	return written
}

func main() {
	run := truth.Start("pool_steady")
	kept := make([][]byte, 4000)
	for i := range kept {
		kept[i] = make([]byte, 1024)
	}
	next := 0
	run.Garbage(4<<20, 512, 4096)
	run.Ready()
	run.Pace(2000, func() {
		kept[next%len(kept)] = make([]byte, answer()%1024+1024)
		next++
	})
}
