// Beside 40 MB that stay, 20 KB/s of subscriptions of 448 bytes that nobody ends, in 200 MB/s of garbage, 8 MB/s of it in the same size class.
package main

import "example.com/leakline/programs/zoo/truth"

type subscription struct {
	next  *subscription
	topic [440]byte
}

var (
	subscriptions *subscription
	static        [40_000][]byte
)

func subscribe() { subscriptions = &subscription{next: subscriptions} } //site:subscription

func main() {
	run := truth.Start("slow_under_churn")
	subscribed := run.Heap("subscription")
	for i := range static {
		static[i] = make([]byte, 1024)
		static[i][0] = 1
	}
	each := truth.Of[subscription]()
	run.Garbage(200<<20, 448, 2048, 8192)
	run.Ready()
	run.Pace(each.PerSecond(20e3), func() {
		subscribe()
		subscribed.Add(1, each)
	})
}
