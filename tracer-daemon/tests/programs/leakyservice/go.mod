module example.com/leakline/programs/leakyservice

go 1.19
