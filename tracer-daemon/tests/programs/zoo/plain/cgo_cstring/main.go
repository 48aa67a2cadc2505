// C.CString without C.free: 200 KB/s of strings of 1,000 bytes that Go's runtime knows nothing of.
package main

// #include <stdlib.h>
// #include <string.h>
import "C"

import (
	"strings"

	"example.com/leakline/programs/zoo/truth"
)

// malloc adds 8 bytes and rounds up to a multiple of 16: 1,001 with the final zero take 1,024.
const chunk = 1024

func length(text string) int { return int(C.strlen(C.CString(text))) }

func main() {
	run := truth.Start("cgo_cstring")
	copies := run.Native("copy")
	text := strings.Repeat("C string. ", 100)
	run.Garbage(3<<20, 512, 4096)
	run.Ready()
	run.Pace(200e3/chunk, func() {
		length(text)
		copies.Add(1, truth.Footprint{chunk: chunk})
	})
}
