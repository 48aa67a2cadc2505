module example.com/leakline/programs/misc

go 1.19
