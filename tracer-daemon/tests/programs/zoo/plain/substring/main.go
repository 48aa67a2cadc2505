// A key of 16 bytes cut from a body of 8,000 holds all of it: 300 KB/s.
package main

import (
	"strings"

	"example.com/leakline/programs/zoo/truth"
)

type known struct {
	next *known
	key  string
}

var seen *known

func remember(word string) {
	body := strings.Repeat(word, 1000) //site:body
	seen = &known{seen, body[:16]}     //also:body
}

func main() {
	run := truth.Start("substring")
	bodies := run.Heap("body")
	each := truth.Plain(8000)
	run.Garbage(9<<20, 512, 4096)
	run.Ready()
	run.Pace(each.PerSecond(300e3), func() {
		remember("8 bytes ")
		bodies.Add(1, each)
	})
}
