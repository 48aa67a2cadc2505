// A JSON service on net/http with 300 requests/s over a few connections that are opened anew every 100 requests.
// Innocent.
package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"example.com/leakline/programs/zoo/truth"
	"example.com/leakline/programs/zoo/truth/peer"
)

type order struct {
	ID    int      `json:"id"`
	Items []string `json:"items"`
}

func answer(w http.ResponseWriter, r *http.Request) {
	var taken order
	if err := json.NewDecoder(r.Body).Decode(&taken); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	taken.ID++
	_ = json.NewEncoder(w).Encode(taken)
}

func load(address string) {
	body := `{"id":1,"items":["` + strings.Repeat("an item of an order", 40) + `"]}`
	tick := time.NewTicker(time.Second / 300)
	for i := 0; ; i++ {
		<-tick.C
		reply, err := http.Post("http://"+address, "application/json", strings.NewReader(body))
		if err != nil {
			continue
		}
		_, _ = io.Copy(io.Discard, reply.Body)
		_ = reply.Body.Close()
		if i%100 == 0 {
			http.DefaultClient.CloseIdleConnections()
		}
	}
}

func main() {
	peer.Load(func() string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		go func() { panic(http.Serve(listener, http.HandlerFunc(answer))) }()
		return listener.Addr().String()
	}, load)
	run := truth.Start("http_service")
	run.Garbage(4<<20, 512, 4096)
	time.Sleep(time.Second)
	run.Ready()
	run.Wait()
}
