// Goroutines waits in every way that Go has, and says what its own runtime says of that.
//
//	> ready PID        each goroutine waits where it will stay (not so with churn and busy)
//	< look             any line
//	> {"num": …}       one line of JSON: runtime.NumGoroutine, both forms of the goroutine profile, and the objects waited for
//	< end of input     the program exits
//
// With the argument `churn` goroutines start, wait for a moment and end all the time. With `parked N` there are N goroutines more,
// of five places. With `finalizer` the goroutine that runs finalizers blocks in one. With `busy` more goroutines compute than there
// are processors. With `leak` a thousand wait on one channel that nobody else has. With `chain` one waits for another, which waits
// for a third one that sleeps, and two wait for each other.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// What is waited for; global, so that the addresses stay on no stack but those of who waits.
var (
	unbuffered = make(chan int)
	full       = make(chan [3]uint64, 4)
	empty      = make(chan byte, 7)
	never      chan int
	cases      = [3]chan int{make(chan int), make(chan int, 4), make(chan int)}
	mutex      sync.Mutex
	lock       sync.RWMutex
	read       sync.RWMutex
	group      sync.WaitGroup
	cond       = sync.NewCond(&sync.Mutex{})
	held       = make(chan struct{})
	objects    = map[string]any{}
)

type sender struct{ to chan int }

func (s *sender) send(value int) { s.to <- value }

func receive(c chan byte) byte { return <-c }

func receiver(c chan byte) { receive(c) }

func fill(c chan [3]uint64) { c <- [3]uint64{1, 2, 3} }

func selecting() {
	select {
	case <-cases[0]:
	case cases[1] <- 1:
	case <-cases[2]:
	}
}

func generic[T any](c chan T) {
	var value T
	c <- value
}

//go:noinline
func deep(depth int, c chan int) int {
	var room [64]int
	room[depth] = depth
	if depth == 0 {
		return <-c
	}
	return deep(depth-1, c) + room[depth/2]
}

func holder(announce chan<- struct{}) {
	mutex.Lock()
	lock.Lock()
	read.Lock()
	announce <- struct{}{}
	<-held
	mutex.Unlock()
}

func locker()   { mutex.Lock() }
func writer()   { lock.Lock() }
func reader()   { read.RLock() }
func waiter()   { group.Wait() }
func sleeper()  { time.Sleep(time.Hour) }
func timed()    { <-time.After(time.Hour) }
func nilSend()  { never <- 1 }
func nilRecv()  { <-never }
func forever()  { select {} }
func signaled() { cond.L.Lock(); cond.Wait() }

func accepting(listener net.Listener) { _, _ = listener.Accept() }

func reading(connection net.Conn) { _, _ = connection.Read(make([]byte, 1)) }

// A blocking read by a system call of its own: the runtime sees a goroutine that is in the kernel.
func blocked(descriptor int) { _, _ = syscall.Read(descriptor, make([]byte, 1)) }

func parent() {
	go child()
	<-held
}

func child() { <-held }

// One goroutine that waits for the other, and for which a third one waits.
func first(give chan int) { give <- <-unbuffered }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func startAll() {
	group.Add(1)
	announced := make(chan struct{})
	go holder(announced)
	<-announced
	for i := 0; i < 4; i++ {
		full <- [3]uint64{}
		cases[1] <- i
	}
	for i := 0; i < 5; i++ {
		go fill(full)
	}
	for i := 0; i < 3; i++ {
		go receiver(empty)
	}
	s := &sender{make(chan int)}
	objects["sender"] = s.to
	go s.send(1)
	go func() {
		s := &sender{make(chan int)}
		s.send(2)
	}()
	go generic(make(chan string))
	go deep(20, make(chan int))
	give := make(chan int)
	objects["give"] = give
	go first(give)
	go func() { <-give }()
	for i := 0; i < 3; i++ {
		go locker()
		go writer()
		go reader()
		go waiter()
		go signaled()
	}
	for _, f := range []func(){selecting, sleeper, timed, nilSend, nilRecv, forever, parent} {
		go f()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	connection, err := net.Dial("tcp", listener.Addr().String())
	check(err)
	peer, err := listener.Accept()
	check(err)
	// Else its finalizer would close it.
	objects["peer"] = peer
	go accepting(listener)
	go reading(connection)
	var pipe [2]int
	check(syscall.Pipe(pipe[:]))
	go blocked(pipe[0])
	coroutine()
	objects["full"], objects["empty"], objects["unbuffered"] = full, empty, unbuffered
	for i, c := range cases {
		objects["case"+strconv.Itoa(i)] = c
	}
	objects["mutex"], objects["lock"], objects["read"], objects["group"], objects["cond"] = &mutex, &lock, &read, &group, cond
	ran := make(chan struct{})
	finalize(func(*sender) { close(ran) }, ran)
}

// finalize returns when the finalizer has closed the channel.
func finalize(finalizer func(*sender), begun <-chan struct{}) {
	runtime.SetFinalizer(&sender{}, finalizer)
	for {
		runtime.GC()
		select {
		case <-begun:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func parked(count int) {
	for i := 0; i < count; i++ {
		switch i % 5 {
		case 0:
			go func() { <-held }()
		case 1:
			go parkedDeep(3)
		case 2:
			go func() {
				select {
				case <-held:
				case <-cases[0]:
				}
			}()
		case 3:
			go func() { locker() }()
		default:
			go forever()
		}
	}
}

//go:noinline
func parkedDeep(depth int) int {
	if depth == 0 {
		<-held
		return 0
	}
	return parkedDeep(depth-1) + 1
}

func leak() {
	results := make(chan int)
	for i := 0; i < 1000; i++ {
		go func() { results <- 1 }()
	}
}

//go:noinline
func pass(from, to chan int) { to <- <-from }

func middle(from, to chan int) { pass(from, to) }

func late(to chan int) { time.Sleep(time.Hour); to <- 1 }

func chain() {
	one, two := make(chan int), make(chan int)
	objects["one"], objects["two"] = one, two
	go late(one)
	go middle(one, two)
	go func() { <-two }()
	left, right := make(chan int), make(chan int)
	objects["left"], objects["right"] = left, right
	go func() { left <- <-right }()
	go func() { right <- <-left }()
}

// More than this many are for measuring what a look costs; what each of them does does not matter there.
const settledMax = 100000

// settle returns when each goroutine, those of the runtime too, waits where it stays.
func settle() {
	// The runtime shows its own goroutines where all of a crash is to be seen.
	debug.SetTraceback("system")
	defer debug.SetTraceback("single")
	text := make([]byte, 1<<20+runtime.NumGoroutine()<<10)
	for {
		length := runtime.Stack(text, true)
		if length == len(text) {
			text = make([]byte, 2*len(text))
			continue
		}
		if settled(text[:length]) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// settled says whether none of the goroutines that runtime.Stack has printed, but the first, which called it, is about to run.
func settled(stacks []byte) bool {
	for i, stack := range bytes.Split(stacks, []byte("\n\n")) {
		head, _, _ := bytes.Cut(stack, []byte("\n"))
		_, state, _ := bytes.Cut(head, []byte("["))
		for _, about := range []string{"runnable", "running", "preempted", "copystack"} {
			if i > 0 && bytes.HasPrefix(state, []byte(about)) {
				return false
			}
		}
		// A system call that ends by itself, unlike the one that is there to block.
		if bytes.HasPrefix(state, []byte("syscall")) && !bytes.Contains(stack, []byte("main.blocked(")) {
			return false
		}
	}
	return true
}

// say prints what the runtime says of itself, by now.
func say() {
	var one, two bytes.Buffer
	check(pprof.Lookup("goroutine").WriteTo(&one, 1))
	check(pprof.Lookup("goroutine").WriteTo(&two, 2))
	addresses := map[string]string{}
	for name, object := range objects {
		addresses[name] = fmt.Sprintf("%p", object)
	}
	line, err := json.Marshal(map[string]any{
		"num": runtime.NumGoroutine(), "profile": one.String(), "stacks": two.String(), "objects": addresses,
	})
	check(err)
	os.Stdout.Write(append(line, '\n'))
}

func main() {
	mode := ""
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	switch mode {
	case "churn":
		startChurn()
	case "finalizer":
		begun := make(chan struct{})
		finalize(func(*sender) { close(begun); <-held }, begun)
	case "busy":
		for i := 0; i < 2*runtime.GOMAXPROCS(0)+2; i++ {
			go compute(i)
		}
	case "parked":
		count, err := strconv.Atoi(os.Args[2])
		check(err)
		mutex.Lock()
		parked(count)
		runtime.GC()
	case "leak":
		leak()
	case "chain":
		chain()
	default:
		startAll()
	}
	if mode != "churn" && mode != "busy" && runtime.NumGoroutine() <= settledMax {
		settle()
	}
	fmt.Printf("ready %d\n", os.Getpid())
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		say()
	}
}
