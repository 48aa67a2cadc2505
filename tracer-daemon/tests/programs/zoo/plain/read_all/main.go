// Uploads of 20,000 bytes read by io.ReadAll, which throws smaller buffers away, and kept: 600 KB/s.
package main

import (
	"bytes"
	"io"

	"example.com/leakline/programs/zoo/truth"
)

type kept struct {
	next *kept
	body []byte
}

var uploads *kept

func receive(from io.Reader) []byte {
	body, err := io.ReadAll(from) //site:body
	if err != nil {
		panic(err)
	}
	return body
}

func main() {
	run := truth.Start("read_all")
	bodies := run.Heap("body")
	sent := make([]byte, 20_000)
	each := truth.Plain(cap(receive(bytes.NewReader(sent))))
	run.Garbage(14<<20, 1280, 4096)
	run.Ready()
	run.Pace(each.PerSecond(600e3), func() {
		uploads = &kept{uploads, receive(bytes.NewReader(sent))} //also:body
		bodies.Add(1, each)
	})
}
