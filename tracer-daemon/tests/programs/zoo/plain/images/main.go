// Decoded images of 1 MB that nobody lets go: 2 MB/s.
package main

import "example.com/leakline/programs/zoo/truth"

type image struct {
	next   *image
	pixels []byte
}

var gallery *image

func decode() {
	pixels := make([]byte, 1<<20) //site:pixels
	for i := range pixels {
		pixels[i] = byte(i)
	}
	gallery = &image{gallery, pixels} //also:pixels
}

func main() {
	run := truth.Start("images")
	images := run.Heap("pixels")
	each := truth.Plain(1 << 20)
	run.Garbage(60<<20, 1024, 16384)
	run.Ready()
	run.Pace(2e6/(1<<20), func() {
		decode()
		images.Add(1, each)
	})
}
