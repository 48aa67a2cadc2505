// A slice of the package that is only ever appended to: 200 KB/s of records of 1,000 bytes in slots of 1,024.
package main

import "example.com/leakline/programs/zoo/truth"

var records [][]byte

func remember() {
	record := make([]byte, 1000)      //site:record
	records = append(records, record) //also:record
}

func main() {
	run := truth.Start("global_slice")
	record := run.Heap("record")
	each := truth.Plain(1000)
	run.Garbage(6<<20, 512, 4096)
	run.Ready()
	run.Pace(195.3125, func() {
		remember()
		record.Add(1, each)
	})
}
