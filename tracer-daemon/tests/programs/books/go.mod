module example.com/leakline/programs/books

go 1.19
