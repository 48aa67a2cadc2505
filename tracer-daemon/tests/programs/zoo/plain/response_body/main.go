// A client asks for a page and neither reads nor closes the body: each of 10 connections/s stays, with its two
// goroutines and its buffers.
package main

import (
	"net"
	"net/http"
	"time"

	"example.com/leakline/programs/zoo/truth"
	"example.com/leakline/programs/zoo/truth/peer"
)

func serve(listener net.Listener) {
	page := make([]byte, 20_000)
	_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) }))
}

func ask(client *http.Client, url string) {
	answer, err := client.Get(url) //site:connection
	if err != nil || answer.StatusCode != http.StatusOK {
		panic(err)
	}
	// and never answer.Body.Close
}

func main() {
	url := "http://" + peer.Serve(serve)
	run := truth.Start("response_body")
	loops := run.GoroutinesOf("loops", "net/http.(*Transport).")
	connections := run.HeapOf("connection", "net/http.", "net.", "net/textproto.", "bufio.", "context.", "internal/poll.", "runtime.malg")
	client := &http.Client{Transport: &http.Transport{}}
	// Those of the measurement stay, too.
	each := truth.Measured(101, func() any {
		ask(client, url)
		time.Sleep(3 * time.Millisecond)
		return client // the answer itself is garbage: what it came by stays
	})
	loops.AddCount(2 * 102)
	run.Garbage(6<<20, 1024, 8192)
	run.Ready()
	run.Pace(10, func() {
		ask(client, url)
		loops.AddCount(2)
		connections.Add(1, each)
	})
}
