module example.com/callersframes

go 1.19
