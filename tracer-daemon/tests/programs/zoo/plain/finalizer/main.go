// The first finalizer waits for ever, so that no other runs and nothing that has one dies: 100 KB/s of files of 2,000
// bytes.
package main

import (
	"runtime"

	"example.com/leakline/programs/zoo/truth"
)

type file struct {
	name   string
	buffer [1984]byte
}

func open() *file {
	opened := &file{name: "journal"} //site:file
	runtime.SetFinalizer(opened, func(*file) { select {} })
	return opened
}

func main() {
	run := truth.Start("finalizer")
	files := run.Heap("file")
	each := truth.Of[file]()
	open().buffer[0]++
	run.Garbage(3<<20, 512, 4096)
	run.Ready()
	run.Pace(each.PerSecond(100e3), func() {
		open().buffer[0]++
		files.Add(1, each)
	})
}
