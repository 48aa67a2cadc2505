// Each session has a logger of its own with its fields encoded in it, made by go.uber.org/zap and never forgotten: 180 KB/s.
package main

import (
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"example.com/leakline/programs/zoo/truth"
)

type sessions struct {
	next   *sessions
	logger *zap.Logger
}

var kept *sessions

func begin(logger *zap.Logger, id int) *zap.Logger {
	return logger.With(zap.String("user", "someone"), zap.Int("session", id), zap.Strings("roles", roles)) //site:fields
}

var roles = []string{"reader", "writer", "auditor of what the others read and write"}

func main() {
	run := truth.Start("zap")
	fields := run.Heap("fields")
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	logger := zap.New(zapcore.NewCore(encoder, zapcore.AddSync(io.Discard), zap.InfoLevel))
	id := 1_000_000
	each := truth.Measured(400, func() any { return begin(logger, id) })
	run.Garbage(5<<20, 2304, 9472)
	run.Ready()
	run.Pace(each.PerSecond(180e3), func() {
		kept = &sessions{kept, begin(logger, id)} //also:fields
		id++
		fields.Add(1, each)
	})
}
