// Uploads wait in goroutines for a confirmation that nobody sends, each with its buffer of 8 KB: 20/s, 160 KB/s.
package main

import "example.com/leakline/programs/zoo/truth"

func upload(size int, confirmed <-chan int) {
	go func() { //site:upload
		buffer := make([]byte, size) //site:buffer
		buffer[<-confirmed]++        //also:upload
	}()
}

func main() {
	run := truth.Start("held_receive")
	uploads, buffers := run.Goroutines("upload"), run.Heap("buffer")
	each := truth.Plain(8192)
	confirmed := make(chan int)
	run.Garbage(5<<20, 1024, 4096)
	run.Ready()
	run.Pace(20, func() {
		upload(8192, confirmed)
		uploads.AddCount(1)
		buffers.Add(1, each)
	})
}
