module example.com/leakline/programs/memory

go 1.19
