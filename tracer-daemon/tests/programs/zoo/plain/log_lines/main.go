// Log lines of 60 bytes kept in memory for a page that nobody opens: 50 KB/s, made by fmt.
package main

import (
	"fmt"

	"example.com/leakline/programs/zoo/truth"
)

type entry struct {
	next *entry
	line string
}

var page *entry

func logf(id int) {
	line := fmt.Sprintf("request %012d from 10.20.30.40 took %03d ms, answer 200.", id, id%1000) //site:line
	page = &entry{page, line}                                                                    //also:line
}

func main() {
	run := truth.Start("log_lines")
	lines := run.Heap("line")
	logf(0)
	each, id := truth.Plain(len(page.line)), 0
	run.Garbage(2<<20, 1024, 8192)
	run.Ready()
	run.Pace(each.PerSecond(50e3), func() {
		logf(id)
		id++
		lines.Add(1, each)
	})
}
