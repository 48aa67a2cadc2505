module example.com/leakline/programs/zoo/zap

go 1.19

require (
	example.com/leakline/programs/zoo/truth v0.0.0
	go.uber.org/zap v1.28.0
)

require go.uber.org/multierr v1.10.0 // indirect

replace example.com/leakline/programs/zoo/truth => ../truth
