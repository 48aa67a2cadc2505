// A request asks a slow service in a goroutine and gives up early; nobody receives the answer then, so that the goroutine blocks
// for ever: 20 goroutines/s.
package main

import (
	"errors"
	"time"

	"example.com/leakline/programs/zoo/truth"
)

var errTooSlow = errors.New("too slow")

func price(slow time.Duration) (int, error) {
	answer := make(chan int) //also:price
	go func() {              //site:price
		time.Sleep(slow) //also:price
		answer <- 1995   //also:price
	}()
	select { //also:price
	case cents := <-answer:
		return cents, nil
	case <-time.After(slow / 4): //also:price
		return 0, errTooSlow
	}
}

func main() {
	run := truth.Start("blocked_send")
	goroutines := run.Goroutines("price")
	run.Garbage(3<<20, 1024, 8192)
	run.Ready()
	run.Pace(20, func() {
		if _, err := price(4 * time.Millisecond); err == errTooSlow {
			goroutines.AddCount(1)
		}
	})
}
