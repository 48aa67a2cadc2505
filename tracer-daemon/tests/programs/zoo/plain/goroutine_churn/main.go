// 50,000 goroutines a second that begin, do a little and end. Innocent.
package main

import (
	"sync"

	"example.com/leakline/programs/zoo/truth"
)

var (
	ended sync.WaitGroup
	sum   [64]int
)

func main() {
	run := truth.Start("goroutine_churn")
	next := 0
	run.Garbage(4<<20, 512, 4096)
	run.Ready()
	run.Pace(1000, func() {
		ended.Add(50)
		for i := 0; i < 50; i++ {
			slot := &sum[i]
			next++
			go func() {
				*slot++
				ended.Done()
			}()
		}
		ended.Wait()
	})
}
