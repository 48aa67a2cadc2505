// Command unruly allocates on known lines while it does what programs rarely do.
//
//	unruly busy|threads|procs|deep NUMBER
//	unruly liar NUMBER OFFSET
//
// It prints "ready PID" and reads commands, a line each: `count` prints how many objects it has allocated so far, `exit`
// ends it with status 0, `exec` executes this binary again with the same arguments (which prints "ready" again), `sleep`
// executes /bin/sleep 60, `grow` makes it take 4 MiB of memory every millisecond. End of input: exit 0.
//
//	busy     NUMBER goroutines allocate 48 bytes each as fast as they can, and keep the last 4,096.
//	threads  NUMBER goroutines, each bound to a thread of its own, allocate 10 objects of 48 bytes and sleep for 1 to 4 ms.
//	procs    as busy; and another goroutine sets GOMAXPROCS to 1, 2, 3, 4, 1, … every 2 ms.
//	deep     NUMBER goroutines start another one each, again and again, that descends 10 to 1,500 calls with frames of about
//	         200 bytes and allocates 48 bytes in every third: its stack grows, that is moves, six times on the way.
//	liar     as busy; and another goroutine calls the probe point at OFFSET of the file with registers that are lies (liar.go).
//
// Known stacks: objects of 48 bytes are allocated in keep, called by busy, thread or descend; descend is called by itself and by
// dive. All of these are functions of package main that are never inlined.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

const kept = 4096

type object struct {
	next *object
	_    [40]byte
}

var allocated int64

type ring struct {
	objects [kept]*object
	at      int
}

//go:noinline
func (r *ring) keep() {
	r.objects[r.at%kept] = new(object) //site:keep
	r.at++
}

//go:noinline
func busy() {
	r := &ring{}
	for {
		for i := 0; i < 1000; i++ {
			r.keep()
		}
		atomic.AddInt64(&allocated, 1000)
	}
}

//go:noinline
func thread(seed int) {
	runtime.LockOSThread()
	r := &ring{}
	for {
		for i := 0; i < 10; i++ {
			r.keep()
		}
		atomic.AddInt64(&allocated, 10)
		seed = seed*1103515245 + 12345
		time.Sleep(time.Millisecond + time.Duration(seed>>16&3)*time.Millisecond)
	}
}

//go:noinline
func procs() {
	for i := 0; ; i++ {
		runtime.GOMAXPROCS(i%4 + 1)
		time.Sleep(2 * time.Millisecond)
	}
}

//go:noinline
func descend(r *ring, depth int) int {
	var frame [24]int
	frame[depth%24] = depth
	if depth%3 == 0 {
		r.keep()
	}
	if depth > 0 {
		frame[0] += descend(r, depth-1)
	}
	return frame[depth%24] + frame[0]
}

//go:noinline
func dive(r *ring, depth int, done chan int) {
	sum := descend(r, depth)
	atomic.AddInt64(&allocated, int64(depth/3+1))
	done <- sum
}

//go:noinline
func divers(seed int) {
	r, done := &ring{}, make(chan int)
	for {
		seed = seed*1103515245 + 12345
		go dive(r, 10+(seed>>16&0x7fffffff)%1490, done)
		<-done
	}
}

//go:noinline
func grow() {
	var all [][]byte
	for {
		chunk := make([]byte, 4<<20)
		for i := 0; i < len(chunk); i += 4096 {
			chunk[i] = 1
		}
		all = append(all, chunk)
		time.Sleep(time.Millisecond)
	}
}

func main() {
	if len(os.Args) < 3 || len(os.Args) > 4 || (len(os.Args) == 4) != (os.Args[1] == "liar") {
		fmt.Fprintln(os.Stderr, "unruly: see main.go for its arguments")
		os.Exit(2)
	}
	number, err := strconv.Atoi(os.Args[2])
	if err != nil || number < 1 {
		fmt.Fprintln(os.Stderr, "unruly: no number of goroutines")
		os.Exit(2)
	}
	for i := 0; i < number; i++ {
		switch os.Args[1] {
		case "threads":
			go thread(i)
		case "deep":
			go divers(i)
		default:
			go busy()
		}
	}
	switch os.Args[1] {
	case "procs":
		go procs()
	case "liar":
		lie()
	}
	// Not before each has begun.
	for atomic.LoadInt64(&allocated) < int64(number) {
		time.Sleep(time.Millisecond)
	}
	fmt.Printf("ready %d\n", os.Getpid())
	obey()
}

func obey() {
	for {
		var command string
		// Fscanln reads byte by byte: what follows the line is left for the next image.
		_, err := fmt.Fscanln(os.Stdin, &command)
		if err == io.EOF {
			return
		}
		switch command {
		case "count":
			fmt.Println(atomic.LoadInt64(&allocated))
		case "grow":
			go grow()
		case "exit":
			os.Exit(0)
		case "exec":
			path, err := os.Executable()
			if err == nil {
				err = syscall.Exec(path, os.Args, os.Environ())
			}
			fmt.Fprintln(os.Stderr, "unruly:", err)
			os.Exit(1)
		case "sleep":
			err := syscall.Exec("/bin/sleep", []string{"sleep", "60"}, os.Environ())
			fmt.Fprintln(os.Stderr, "unruly:", err)
			os.Exit(1)
		}
	}
}
