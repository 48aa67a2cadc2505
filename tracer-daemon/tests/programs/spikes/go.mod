module example.com/leakline/programs/spikes

go 1.19
