// Putload is a bounded load on the etcd that leakline is tried on: puts at a fixed rate over a fixed set of keys for a
// fixed time, then one JSON line with what was done. It never runs longer than -for and never faster than -rate.
//
//	putload -endpoint 127.0.0.1:2379 -rate 200 -for 60s -keys 1000 -value-bytes 256
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The most that the flags may ask for, so that a slip of the hand cannot fill a disk.
const (
	maxRate  = 5000
	maxFor   = time.Hour
	maxValue = 64 << 10
)

func main() {
	endpoint := flag.String("endpoint", "127.0.0.1:2379", "etcd client address, loopback only")
	rate := flag.Int("rate", 200, "puts per second, 1 to 5000")
	duration := flag.Duration("for", time.Minute, "how long, at most 1h")
	keys := flag.Int("keys", 1000, "number of different keys")
	valueBytes := flag.Int("value-bytes", 256, "bytes of each value, at most 65536")
	flag.Parse()
	if err := run(*endpoint, *rate, *duration, *keys, *valueBytes); err != nil {
		fmt.Fprintln(os.Stderr, "putload:", err)
		os.Exit(1)
	}
}

func run(endpoint string, rate int, duration time.Duration, keys, valueBytes int) error {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%s is not a loopback address", endpoint)
	}
	if rate < 1 || rate > maxRate || duration <= 0 || duration > maxFor || keys < 1 || valueBytes < 1 || valueBytes > maxValue {
		return fmt.Errorf("a flag is out of its bounds, see -help")
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 5 * time.Second})
	if err != nil {
		return err
	}
	defer client.Close()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()

	value := strings.Repeat("v", valueBytes)
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	begin := time.Now()
	puts, failed := 0, 0
	for {
		select {
		case <-tick.C:
			_, err := client.Put(ctx, fmt.Sprintf("/leakline/key-%06d", puts%keys), value)
			if ctx.Err() != nil {
				continue
			}
			if err != nil {
				failed++
			}
			puts++
		case <-ctx.Done():
			return json.NewEncoder(os.Stdout).Encode(map[string]any{
				"puts": puts, "failed": failed, "seconds": time.Since(begin).Seconds(),
			})
		}
	}
}
