module example.com/leakline/programs/zoo/redis

go 1.21

require (
	example.com/leakline/programs/zoo/truth v0.0.0
	github.com/redis/go-redis/v9 v9.17.3
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/dgryski/go-rendezvous v0.0.0-20200823014737-9f7001d12a5f // indirect
)

replace example.com/leakline/programs/zoo/truth => ../truth
