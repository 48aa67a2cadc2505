module example.com/leakline/programs/heapprofile

go 1.19
