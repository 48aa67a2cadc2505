module example.com/leakline/programs/zoo/truth

go 1.19
