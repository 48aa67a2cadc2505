// Jobs come faster than they are done: 260 a second against 160, so that the queue grows by 50 KB/s of jobs of 512
// bytes.
package main

import (
	"container/list"

	"example.com/leakline/programs/zoo/truth"
)

type job struct {
	done func()
	body [496]byte
}

func main() {
	run := truth.Start("queue")
	waiting := run.Heap("job")
	each := truth.Of[job]()
	jobs := list.New()
	last := 0
	run.Garbage(2<<20, 1024, 8192)
	run.Ready()
	submitted, finished := 0.0, 0.0
	run.Pace(each.PerSecond(133.12e3), func() {
		jobs.PushBack(newJob()) //also:job
		// One in 260 is not done, and so on: 160 of 260.
		for submitted++; finished < submitted*160/260; finished++ {
			jobs.Remove(jobs.Front())
		}
		waiting.Add(jobs.Len()-last, each)
		last = jobs.Len()
	})
}

func newJob() *job { return new(job) } //site:job
