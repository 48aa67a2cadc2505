module example.com/leakline/programs/goroutines

go 1.19
