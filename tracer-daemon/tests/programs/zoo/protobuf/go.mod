module example.com/leakline/programs/zoo/protobuf

go 1.19

require example.com/leakline/programs/zoo/truth v0.0.0

require google.golang.org/protobuf v1.33.0

replace example.com/leakline/programs/zoo/truth => ../truth
