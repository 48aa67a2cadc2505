// The first 64 bytes of each block of 64 KB are kept, and the block with them: 1 MB/s of objects that have a span each.
package main

import "example.com/leakline/programs/zoo/truth"

var heads [][]byte

func index(size int) {
	block := make([]byte, size) //site:block
	for i := range block {
		block[i] = 1
	}
	heads = append(heads, block[:64]) //also:block
}

func main() {
	run := truth.Start("subslice")
	blocks := run.Heap("block")
	heads = make([][]byte, 0, 10_000)
	each := truth.Plain(64 << 10)
	run.Garbage(28<<20, 512, 4096, 16384)
	run.Ready()
	run.Pace(each.PerSecond(1e6), func() {
		index(64 << 10)
		blocks.Add(1, each)
	})
}
