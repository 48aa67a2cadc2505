// Sessions that a timer deletes after an hour, as long as they come at 150 KB/s: a map of 3,000 bytes each, and timers.
package main

import (
	"sync"
	"time"

	"example.com/leakline/programs/zoo/truth"
)

type session struct {
	user   string
	visits [373]*string
}

type store struct {
	mu   sync.Mutex
	byID map[int]*session
}

func (s *store) begin(id int) {
	fresh := &session{} //site:session
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byID[id] = fresh                                     //also:session
	time.AfterFunc(time.Hour, func() { s.end(id, fresh) }) //also:session
}

func (s *store) end(id int, ended *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[id] == ended {
		delete(s.byID, id)
	}
}

func main() {
	run := truth.Start("session_afterfunc")
	sessions := run.Heap("session")
	all := store{byID: map[int]*session{}}
	each, id := truth.Of[session](), 0
	run.Garbage(5<<20, 1024, 8192)
	run.Ready()
	run.Pace(each.PerSecond(150e3), func() {
		all.begin(id)
		id++
		sessions.Add(1, each)
	})
}
