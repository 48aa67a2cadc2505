module example.com/leakline/programs/points

go 1.19
