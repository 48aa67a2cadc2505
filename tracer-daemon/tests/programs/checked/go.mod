module example.com/leakline/programs/checked

go 1.19
