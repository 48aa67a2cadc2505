// Each new device gets a goroutine that polls it with a ticker, which nobody stops when the device has gone: 30
// goroutines/s, each with a buffer of 2,048 bytes.
package main

import (
	"time"

	"example.com/leakline/programs/zoo/truth"
)

type device struct {
	name   string
	answer []byte
}

func (d *device) poll() {
	tick := time.NewTicker(time.Hour) //also:poller
	for range tick.C { //also:poller
		d.answer[0]++
	}
}

func connect() {
	fresh := &device{"meter", nil}    //also:poller
	fresh.answer = make([]byte, 2048) //site:answer
	go fresh.poll()                   //site:poller
}

func main() {
	run := truth.Start("ticker")
	pollers, answers := run.Goroutines("poller"), run.Heap("answer")
	each := truth.Plain(2048)
	run.Garbage(3<<20, 1024, 8192)
	run.Ready()
	run.Pace(30, func() {
		connect()
		pollers.AddCount(1)
		answers.Add(1, each)
	})
}
