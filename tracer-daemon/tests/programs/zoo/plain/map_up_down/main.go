// A map that grows for 15 s to 30,000 entries and shrinks for 15 s. Innocent.
package main

import "example.com/leakline/programs/zoo/truth"

type visitor struct {
	name string
	seen [240]byte
}

const most = 30_000

func main() {
	run := truth.Start("map_up_down")
	visitors, turn := map[int]*visitor{}, 0
	run.Garbage(4<<20, 512, 4096)
	run.Ready()
	run.Pace(most/15, func() {
		if key := turn % (2 * most); key < most {
			visitors[key] = &visitor{name: "someone"}
		} else {
			delete(visitors, key-most)
		}
		turn++
	})
}
