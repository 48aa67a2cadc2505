// Connections taken from the pool of github.com/redis/go-redis and never given back: 10 a second, with their buffers. The server is a
// process of its own that speaks as much of the protocol as is needed.
package main

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/leakline/programs/zoo/truth"
	"example.com/leakline/programs/zoo/truth/fakeredis"
	"example.com/leakline/programs/zoo/truth/peer"
)

type taken struct {
	next       *taken
	connection *redis.Conn
}

var kept *taken

func take(client *redis.Client) *redis.Conn {
	connection := client.Conn()                                               //site:connection
	if err := connection.Get(context.Background(), "key").Err(); err != nil { //site:connection
		panic(err)
	}
	return connection // and never Close
}

func main() {
	address := peer.Serve(fakeredis.Serve)
	run := truth.Start("redis")
	connections := run.HeapOf("connection", "github.com/redis/go-redis/")
	client := redis.NewClient(&redis.Options{
		Addr: address, PoolSize: 10_000, DisableIndentity: true, ReadBufferSize: 4096, WriteBufferSize: 4096,
		// A machine may be busy.
		DialTimeout: time.Minute, ReadTimeout: time.Minute, WriteTimeout: time.Minute, PoolTimeout: time.Minute,
	})
	each := truth.Measured(50, func() any { return take(client) })
	run.Garbage(4<<20, 1024, 8192)
	run.Ready()
	run.Pace(10, func() {
		kept = &taken{kept, take(client)} //also:connection
		connections.Add(1, each)
	})
}
