module example.com/leakline/programs/layouts

go 1.19
