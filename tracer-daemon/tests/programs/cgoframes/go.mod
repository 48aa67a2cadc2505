module example.com/leakline/programs/cgoframes

go 1.19
