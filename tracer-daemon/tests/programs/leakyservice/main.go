// Leakyservice is a small JSON web shop on loopback with two leaks, and the demo of leakline. It brings its own load
// generator, so that starting it is all there is to do:
//
//	leakyservice -for 5m -rate 200
//
// Known numbers at the default 200 requests/s:
//   - memory leak: (*sessionStore).put, line marked site:session, one 4,864-byte object for each request, 0.97 MB/s
//     (and the map that holds them);
//   - goroutine leak: (*shop).price, line marked site:price, one goroutine for every tenth request, 20/s, blocked in
//     the channel send marked block:price;
//   - innocent garbage: JSON of orders, encoded and decoded by both sides, about 20 MB/s from encoding/json and
//     bytes.Buffer. Nothing of it survives for long.
//
// It prints `listening ADDRESS pid PID`, and at the end what it did. It ends by itself after -for.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof" // as most services have it: with it the runtime keeps a heap profile
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// visit is one page view that a session remembers.
type visit struct {
	path, query string
	at          time.Time
	status      int
	bytes       int
}

// session is what the shop knows about a visitor: 4,800 bytes, with the 8 of the malloc header in size class 4,864.
type session struct {
	user    string
	created time.Time
	next    int
	recent  [66]visit
}

// sessionStore caches sessions. It never evicts: the memory leak.
type sessionStore struct {
	mu   sync.Mutex
	byID map[string]*session
}

// put remembers a new session for ever.
func (s *sessionStore) put(id, user string) {
	fresh := &session{user: user, created: time.Now()} //site:session
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byID[id] = fresh
}

type item struct {
	SKU         string            `json:"sku"`
	Description string            `json:"description"`
	Quantity    int               `json:"quantity"`
	Cents       int               `json:"cents"`
	Attributes  map[string]string `json:"attributes"`
}

type order struct {
	ID    string `json:"id"`
	User  string `json:"user"`
	Items []item `json:"items"`
	Total int    `json:"total"`
}

type shop struct {
	sessions sessionStore
	slow     time.Duration
}

// price asks a slow service and gives up early. Nobody receives then, so the goroutine blocks for ever: the goroutine
// leak. (The repair is a channel with room for one value.)
func (s *shop) price(ctx context.Context, items []item) (int, error) {
	answer := make(chan int)
	go func() { //site:price
		time.Sleep(s.slow)
		total := 0
		for _, it := range items {
			total += it.Quantity * it.Cents
		}
		answer <- total //block:price
	}()
	select {
	case total := <-answer:
		return total, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// ServeHTTP takes an order, remembers the visitor, and answers with the order and its total.
func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var o order
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.sessions.put(o.ID, o.User)
	if r.URL.Query().Has("exact") {
		ctx, cancel := context.WithTimeout(r.Context(), s.slow/4)
		defer cancel()
		o.Total, _ = s.price(ctx, o.Items[:1]) // too late: the estimate below will do
	}
	if o.Total == 0 {
		for _, it := range o.Items {
			o.Total += it.Quantity * it.Cents
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(o); err != nil {
		log.Print(err)
	}
}

// shopper is the load generator: one order after another over one kept connection.
func shopper(ctx context.Context, base string, rate int) (requests int) {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	template := order{User: "user-4711"}
	for i := 0; i < 34; i++ {
		template.Items = append(template.Items, item{
			SKU: "sku-" + strconv.Itoa(i), Description: "one of the things that people buy here", Quantity: i + 1, Cents: 1995,
			Attributes: map[string]string{"colour": "blue", "size": "XL", "warehouse": "Rotterdam"},
		})
	}
	for {
		select {
		case <-ctx.Done():
			return requests
		case <-tick.C:
		}
		template.ID = fmt.Sprintf("order-%08d", requests)
		url := base + "/order"
		if requests%10 == 0 {
			url += "?exact"
		}
		if err := buy(ctx, url, template); err != nil {
			if ctx.Err() == nil {
				log.Print(err)
			}
			continue
		}
		requests++
	}
}

// buy sends one order and reads the answer to its end.
func buy(ctx context.Context, url string, o order) error {
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(o); err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, &body)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(&o)
}

func main() {
	duration := flag.Duration("for", 5*time.Minute, "how long to run")
	rate := flag.Int("rate", 200, "requests per second, 1 to 1000")
	flag.Parse()
	if *rate < 1 || *rate > 1000 {
		log.Fatal("-rate is out of its bounds, see -help")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := &shop{sessions: sessionStore{byID: map[string]*session{}}, slow: 8 * time.Millisecond}
	server := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.Serve(listener); err != http.ErrServerClosed {
			log.Fatal(err)
		}
	}()
	fmt.Printf("listening %s pid %d\n", listener.Addr(), os.Getpid())

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *duration)
	defer cancel()
	requests := shopper(ctx, "http://"+listener.Addr().String(), *rate)
	fmt.Printf("requests %d sessions %d goroutines %d\n", requests, len(s.sessions.byID), runtime.NumGoroutine())
	_ = server.Close()
}
