module example.com/leakline/programs/allocrate

go 1.19
