module example.com/leakline/programs/knownsites

go 1.19
