module example.com/leakline/programs/synctest

go 1.25
