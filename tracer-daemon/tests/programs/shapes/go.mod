module example.com/leakline/programs/shapes

go 1.19
