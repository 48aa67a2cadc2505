// A map from which nobody deletes: 100 KB/s of accounts of 600 bytes.
package main

import "example.com/leakline/programs/zoo/truth"

type account struct {
	owner   *string
	history [74]int64
}

var byID = map[int]*account{}

func register(id int) {
	fresh := &account{} //site:account
	byID[id] = fresh    //also:account
}

func main() {
	run := truth.Start("map_no_delete")
	accounts := run.Heap("account")
	each, id := truth.Of[account](), 0
	run.Garbage(4<<20, 1024, 2048)
	run.Ready()
	run.Pace(each.PerSecond(100e3), func() {
		register(id)
		id++
		accounts.Add(1, each)
	})
}
