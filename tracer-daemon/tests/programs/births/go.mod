module example.com/leakline/programs/births

go 1.19
