module example.com/leakline/programs/knownlines

go 1.19
