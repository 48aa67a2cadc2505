module example.com/leakline/programs/turnover

go 1.19
