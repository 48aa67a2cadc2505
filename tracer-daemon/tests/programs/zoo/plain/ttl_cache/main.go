// Sessions that a timer deletes after 5 s: 300 KB/s come and go. It is as full as it gets before it is ready. Innocent.
package main

import (
	"sync"
	"time"

	"example.com/leakline/programs/zoo/truth"
)

type session struct {
	user   string
	visits [125]*string
}

type store struct {
	mu   sync.Mutex
	byID map[int]*session
}

func (s *store) begin(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byID[id] = &session{}
	time.AfterFunc(5*time.Second, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.byID, id)
	})
}

func main() {
	run := truth.Start("ttl_cache")
	all, id := store{byID: map[int]*session{}}, 0
	begin := func() {
		all.begin(id)
		id++
	}
	tick := time.NewTicker(50 * time.Millisecond)
	for i := 0; i < 6*20; i++ {
		for j := 0; j < 15; j++ {
			begin()
		}
		<-tick.C
	}
	tick.Stop()
	run.Garbage(4<<20, 512, 4096)
	run.Ready()
	run.Pace(300, begin)
}
