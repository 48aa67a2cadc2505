//go:build !go1.23 && !goexperiment.rangefunc

package main

const pullIsBuilt = false

func pullAll() {}
