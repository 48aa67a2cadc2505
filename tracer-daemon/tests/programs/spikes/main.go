// Spikes allocates known numbers of objects at known times, when it is told to on its standard input:
//
//	spike N     N objects of 1 KiB at the line of spike, at once; then it says when it began and ended, nanoseconds of CLOCK_MONOTONIC
//	rest N      nothing for N milliseconds; then it says so
//	steady      from now on about 1 MiB/s at the line of steady
//	storm       from now on as much as it can at the line of storm, and beside that a twentieth of it at the line of drizzle
//	calm        the storm is over; then it says so
//
// Between these it allocates next to nothing.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	objectBytes  = 1024
	stormBytes   = 512
	steadyBytes  = 4096
	drizzleEvery = 20
)

var (
	sink [64][]byte
	// Each goroutine has its own places, so that none waits for another.
	steadySink, stormSink, drizzleSink []byte
	raining                            int32
)

const clockMonotonic = 1

func monotonic() int64 {
	var now syscall.Timespec
	if _, _, err := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&now)), 0); err != 0 {
		panic(err)
	}
	return now.Nano()
}

//go:noinline
func spike(number int) {
	for i := 0; i < number; i++ {
		sink[i%len(sink)] = make([]byte, objectBytes) //site:spike
	}
}

//go:noinline
func steady() {
	for {
		for i := 0; i < 5; i++ {
			steadySink = make([]byte, steadyBytes) //site:steady
		}
		time.Sleep(20 * time.Millisecond)
	}
}

//go:noinline
func storm() {
	stormSink = make([]byte, stormBytes) //site:storm
}

//go:noinline
func drizzle() {
	drizzleSink = make([]byte, stormBytes) //site:drizzle
}

func rain(over chan<- struct{}) {
	for i := 0; atomic.LoadInt32(&raining) != 0; i++ {
		if i%drizzleEvery == 0 {
			drizzle()
		} else {
			storm()
		}
	}
	close(over)
}

func main() {
	fmt.Println("ready")
	var over chan struct{}
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		command, number := input.Text(), 0
		if words := strings.Fields(command); len(words) == 2 {
			command = words[0]
			if _, err := fmt.Sscan(words[1], &number); err != nil {
				panic(err)
			}
		}
		switch command {
		case "spike":
			began := monotonic()
			spike(number)
			fmt.Println(began, monotonic())
		case "rest":
			time.Sleep(time.Duration(number) * time.Millisecond)
			fmt.Println("rested")
		case "steady":
			go steady()
		case "storm":
			over = make(chan struct{})
			atomic.StoreInt32(&raining, 1)
			go rain(over)
		case "calm":
			atomic.StoreInt32(&raining, 0)
			<-over
			fmt.Println("calm")
		}
	}
}
