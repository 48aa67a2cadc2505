module example.com/leakline/programs/zoo/plain

go 1.19

require example.com/leakline/programs/zoo/truth v0.0.0

replace example.com/leakline/programs/zoo/truth => ../truth
