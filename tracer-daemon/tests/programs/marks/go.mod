module example.com/leakline/programs/marks

go 1.19
