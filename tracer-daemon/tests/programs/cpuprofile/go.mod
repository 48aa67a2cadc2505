module example.com/leakline/programs/cpuprofile

go 1.19
