module example.com/leakline/programs/unruly

go 1.19
