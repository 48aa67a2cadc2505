// Shapes that take libraries: zap, protobuf, redis, gorm. The rest of the program is ../../shapes/main.go:
// `cp ../../shapes/main.go . && go run .`
package main

import (
	"context"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
	"gorm.io/gorm"
	gormtests "gorm.io/gorm/utils/tests"
)

func init() {
	shapes = []func(){shapeZap, shapeZapFields, shapeProtobuf, shapeRedis, shapeGorm}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Sync() error                 { return nil }

//go:noinline
func shapeZap() {
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), discard{}, zap.DebugLevel)
	logger := zap.New(core)
	for i := 0; i < 20; i++ {
		logger.Info("some message", zap.Int("i", i), zap.ByteString("long", make([]byte, 5000)))
	}
}

//go:noinline
func shapeZapFields() {
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), discard{}, zap.DebugLevel)
	logger := zap.New(core)
	for i := 0; i < 20; i++ {
		keep = append(keep, logger.With(zap.Int("request", i), zap.String("user", "somebody")))
	}
}

//go:noinline
func shapeProtobuf() {
	var unknown []byte
	for i := 0; i < 20; i++ {
		unknown = protowire.AppendTag(unknown, 77, protowire.BytesType)
		unknown = protowire.AppendBytes(unknown, make([]byte, 100))
	}
	for i := 0; i < 20; i++ {
		m := new(emptypb.Empty)
		if err := proto.Unmarshal(unknown, m); err != nil {
			panic(err)
		}
		keep = append(keep, m)
	}
	value, _ := structpb.NewStruct(map[string]any{"a": "text", "b": 1.0})
	known, _ := proto.Marshal(value)
	for i := 0; i < 20; i++ {
		m := new(structpb.Struct)
		_ = proto.Unmarshal(known, m)
		keep = append(keep, m)
	}
}

//go:noinline
func shapeRedis() {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: 8})
	for i := 0; i < 8; i++ {
		conn := client.Conn()
		conn.Ping(context.Background())
		keep = append(keep, conn)
	}
	for i := 0; i < 5; i++ {
		go client.Ping(context.Background())
	}
	for i := 0; i < 5; i++ {
		keep = append(keep, client.Subscribe(context.Background(), "x").Channel())
	}
	for i := 0; i < 3; i++ {
		c := redis.NewClient(&redis.Options{Addr: server.Addr()})
		c.Ping(context.Background())
		keep = append(keep, c)
	}
	time.Sleep(100 * time.Millisecond)
}

type Row struct {
	ID   uint
	Name string
}

//go:noinline
func shapeGorm() {
	db, err := gorm.Open(gormtests.DummyDialector{}, &gorm.Config{DryRun: true})
	if err != nil {
		panic(err)
	}
	for i := 0; i < 20; i++ {
		var rows []Row
		keep = append(keep, db.Where("id > ?", i).Find(&rows))
	}
	db2 := db
	for i := 0; i < 20; i++ {
		db2 = db2.Where("id > ?", i)
		keep = append(keep, db2.Session(&gorm.Session{}))
	}
}
