// C.malloc without C.free: 500 KB/s in blocks of 5,000 bytes, each written once.
package main

// #include <stdlib.h>
// #include <string.h>
//
// static void *decode(size_t bytes) { return memset(malloc(bytes), 1, bytes); }
import "C"

import "example.com/leakline/programs/zoo/truth"

// malloc adds 8 bytes and rounds up to a multiple of 16.
const chunk = 5008

func main() {
	run := truth.Start("cgo_malloc")
	blocks := run.Native("block")
	run.Garbage(3<<20, 512, 4096)
	run.Ready()
	run.Pace(500e3/chunk, func() {
		C.decode(chunk - 8)
		blocks.Add(1, truth.Footprint{chunk: chunk})
	})
}
