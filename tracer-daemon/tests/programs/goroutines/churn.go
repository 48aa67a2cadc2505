package main

import (
	"runtime"
	"time"
)

// The two ways down are alike in all but their names, so that a stack which is read half before and half after a goroutine went from
// one to the other would have frames of both.

var (
	leftTokens  = make(chan int)
	rightTokens = make(chan int)
	sink        [64]int
)

//go:noinline
func left0(c chan int) int { return left1(c) + 1 }

//go:noinline
func left1(c chan int) int { return left2(c) + 1 }

//go:noinline
func left2(c chan int) int { return <-c }

//go:noinline
func right0(c chan int) int { return right1(c) + 1 }

//go:noinline
func right1(c chan int) int { return right2(c) + 1 }

//go:noinline
func right2(c chan int) int { return <-c }

func alternate(rounds int, ended chan<- struct{}) {
	for i := 0; i < rounds; i++ {
		left0(leftTokens)
		right0(rightTokens)
	}
	if ended != nil {
		ended <- struct{}{}
	}
}

func feed(c chan int) {
	for i := 0; ; i++ {
		c <- i
	}
}

// spawn replaces goroutines that end by new ones.
func spawn() {
	ended := make(chan struct{})
	for i := 0; i < 50; i++ {
		go alternate(1+i%7, ended)
	}
	for i := 0; ; i++ {
		<-ended
		go alternate(1+i%7, ended)
	}
}

func naps() {
	for {
		time.Sleep(50 * time.Microsecond)
		runtime.Gosched()
	}
}

func startChurn() {
	go feed(leftTokens)
	go feed(rightTokens)
	for i := 0; i < 50; i++ {
		go alternate(1<<40, nil)
	}
	go spawn()
	for i := 0; i < 20; i++ {
		go naps()
	}
}

//go:noinline
func spin(slot, rounds int) int {
	sum := slot
	for i := 0; i < rounds; i++ {
		sum += step(sum)
	}
	return sum
}

//go:noinline
func step(value int) int { return value*3 + leaf(value) }

//go:noinline
func leaf(value int) int { return value >> 3 }

func compute(slot int) {
	for {
		sink[slot%len(sink)] += spin(slot, 1000)
	}
}
