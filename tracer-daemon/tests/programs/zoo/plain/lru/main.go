// A cache that evicts the least recently used: full with 20,000 entries of 1,100 bytes before it is ready, then 3,000 new ones
// a second, each in place of another. Innocent.
package main

import (
	"container/list"
	"math/rand"

	"example.com/leakline/programs/zoo/truth"
)

const capacity = 20_000

type entry struct {
	key   int
	value []byte
}

type cache struct {
	byKey map[int]*list.Element
	order *list.List
}

func (c *cache) get(key int) []byte {
	if found, ok := c.byKey[key]; ok {
		c.order.MoveToFront(found)
		return found.Value.(*entry).value
	}
	fresh := &entry{key, make([]byte, 1100)}
	c.byKey[key] = c.order.PushFront(fresh)
	if c.order.Len() > capacity {
		oldest := c.order.Remove(c.order.Back()).(*entry)
		delete(c.byKey, oldest.key)
	}
	return fresh.value
}

func main() {
	run := truth.Start("lru")
	pages := cache{make(map[int]*list.Element, capacity+1), list.New()}
	random := rand.New(rand.NewSource(1))
	// Many times as often as it takes to fill it, so that the map has its final size, too.
	for i := 0; i < 20*capacity; i++ {
		pages.get(random.Intn(4 * capacity))
	}
	run.Garbage(4<<20, 256, 2048)
	run.Ready()
	run.Pace(4000, func() { pages.get(random.Intn(4 * capacity)) })
}
