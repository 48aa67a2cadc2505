// shapes makes each shape of leak that the hints know, one function for each, and prints the stacks that the runtime itself has of
// them: `heap` for allocations (the runtime's own frames included), `goroutine` for goroutines (likewise), `state` for what they
// wait for, as a traceback prints it, with where they were created. Known numbers: none; what is known is which function of these made what.
//
// Some of its lines, of several releases of Go, are the input of a test: src/model/hints/stacks.tsv.
package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
)

var keep []any

var bufferPool = sync.Pool{New: func() any { return new(bytes.Buffer) }}
var slicePool = sync.Pool{New: func() any { s := make([]byte, 70000); return &s }}

//go:noinline
func shapeAfterFunc() {
	for i := 0; i < 50; i++ {
		session := make([]byte, 4096)
		keep = append(keep, time.AfterFunc(time.Hour, func() { _ = session }))
	}
}

//go:noinline
func shapeTicker() {
	for i := 0; i < 50; i++ {
		t := time.NewTicker(time.Hour)
		_ = t
	}
}

//go:noinline
func shapeTimeAfter() {
	for i := 0; i < 50; i++ {
		_ = time.After(time.Hour)
	}
}

var contexts []context.Context

//go:noinline
func shapeContext() {
	root, cancel := context.WithCancel(context.Background())
	_ = cancel
	for i := 0; i < 50; i++ {
		ctx, _ := context.WithCancel(root)
		contexts = append(contexts, ctx)
		ctx, _ = context.WithTimeout(root, time.Hour)
		contexts = append(contexts, ctx)
	}
}

type foreign struct{ context.Context }

func (f foreign) Done() <-chan struct{} { return make(chan struct{}) }

//go:noinline
func shapeContextGoroutine() {
	for i := 0; i < 5; i++ {
		ctx, _ := context.WithCancel(foreign{context.Background()})
		contexts = append(contexts, ctx)
	}
}

//go:noinline
func shapeBufferPool() {
	for i := 0; i < 10; i++ {
		b := bufferPool.Get().(*bytes.Buffer)
		b.Write(make([]byte, 100000))
		keep = append(keep, b)
	}
}

//go:noinline
func shapeSlicePool() {
	for i := 0; i < 10; i++ {
		keep = append(keep, slicePool.Get())
	}
}

//go:noinline
func shapeSprintf() {
	for i := 0; i < 10; i++ {
		keep = append(keep, fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000)))
	}
}

//go:noinline
func shapeJSON() {
	for i := 0; i < 10; i++ {
		var value map[string]any
		_ = json.Unmarshal([]byte(`{"a": [1, 2, {"b": "text of some length"}], "c": "d"}`), &value)
		keep = append(keep, value)
		out, _ := json.Marshal(value)
		keep = append(keep, out)
	}
}

type file struct{ name [64]byte }

//go:noinline
func shapeFinalizer() {
	for i := 0; i < 50; i++ {
		f := new(file)
		runtime.SetFinalizer(f, func(*file) { select {} })
	}
	runtime.GC()
	time.Sleep(50 * time.Millisecond)
}

var global []int
var table = map[int][]byte{}
var stringTable = map[string]int{}
var intTable = map[uint64]int{}

//go:noinline
func shapeAppend() {
	for i := 0; i < 1000000; i++ {
		global = append(global, i)
	}
}

//go:noinline
func shapeMap() {
	for i := 0; i < 50000; i++ {
		table[i] = nil
		stringTable[fmt.Sprint(i)] = i
		intTable[uint64(i)] = i
	}
}

//go:noinline
func shapeDefer() {
	for i := 0; i < 1000; i++ {
		m := new(sync.Mutex)
		m.Lock()
		defer m.Unlock()
	}
	recordHeap()
}

//go:noinline
func shapeSubslice() {
	for i := 0; i < 10; i++ {
		big, _ := os.ReadFile("/proc/self/maps")
		keep = append(keep, big[:3])
	}
}

//go:noinline
func shapeBlockedSend() {
	for i := 0; i < 5; i++ {
		result := make(chan int)
		go func() { result <- 1 }()
		select {
		case <-result:
		case <-time.After(time.Nanosecond):
		default:
		}
	}
}

//go:noinline
func shapeBlockedReceive() {
	for i := 0; i < 5; i++ {
		work := make(chan int)
		go func() {
			for range work {
			}
		}()
	}
}

//go:noinline
func shapeWaitGroup() {
	for i := 0; i < 5; i++ {
		var group sync.WaitGroup
		group.Add(2)
		go func() { group.Done() }()
		go func() { group.Wait() }()
	}
}

var mutex sync.Mutex
var rw sync.RWMutex

//go:noinline
func shapeMutex() {
	mutex.Lock()
	rw.Lock()
	for i := 0; i < 20; i++ {
		go func() { mutex.Lock(); mutex.Unlock() }()
		go func() { rw.RLock(); rw.RUnlock() }()
	}
}

//go:noinline
func shapeCond() {
	c := sync.NewCond(&sync.Mutex{})
	for i := 0; i < 5; i++ {
		go func() { c.L.Lock(); c.Wait() }()
	}
}

//go:noinline
func shapeTickerLoop() {
	for i := 0; i < 5; i++ {
		t := time.NewTicker(time.Hour)
		go func() {
			for range t.C {
			}
		}()
	}
}

//go:noinline
func shapeSleep() {
	for i := 0; i < 5; i++ {
		go func() { time.Sleep(time.Hour) }()
	}
}

//go:noinline
func shapeNil() {
	for i := 0; i < 5; i++ {
		var c chan int
		go func() { <-c }()
		go func() { select {} }()
	}
}

//go:noinline
func shapeBody() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(bytes.Repeat([]byte("x"), 200000))
	}))
	for i := 0; i < 5; i++ {
		response, err := http.Get(server.URL)
		if err != nil {
			panic(err)
		}
		keep = append(keep, response.StatusCode)
	}
	var handlers sync.WaitGroup
	handlers.Add(5)
	blocked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers.Done()
		select {}
	}))
	for i := 0; i < 5; i++ {
		go http.Get(blocked.URL)
	}
	handlers.Wait()
}

type fakeDriver struct{}
type fakeConn struct{}
type fakeStmt struct{}
type fakeRows struct{}

func (fakeDriver) Open(string) (driver.Conn, error)         { return fakeConn{}, nil }
func (fakeConn) Prepare(string) (driver.Stmt, error)        { return fakeStmt{}, nil }
func (fakeConn) Close() error                               { return nil }
func (fakeConn) Begin() (driver.Tx, error)                  { return nil, errors.New("no") }
func (fakeStmt) Close() error                               { return nil }
func (fakeStmt) NumInput() int                              { return 0 }
func (fakeStmt) Exec([]driver.Value) (driver.Result, error) { return nil, nil }
func (fakeStmt) Query([]driver.Value) (driver.Rows, error)  { return fakeRows{}, nil }
func (fakeRows) Columns() []string                          { return []string{"a"} }
func (fakeRows) Close() error                               { return nil }
func (fakeRows) Next([]driver.Value) error                  { return nil }

//go:noinline
func shapeSQL() {
	sql.Register("fake", fakeDriver{})
	db, _ := sql.Open("fake", "")
	for i := 0; i < 5; i++ {
		rows, err := db.QueryContext(context.Background(), "x")
		if err != nil {
			panic(err)
		}
		rows.Next()
		keep = append(keep, rows)
	}
	db.SetMaxOpenConns(5)
	for i := 0; i < 5; i++ {
		go db.Query("x")
	}
	for i := 0; i < 3; i++ {
		other, _ := sql.Open("fake", "")
		keep = append(keep, other)
	}
}

//go:noinline
func shapeBufio() {
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	for i := 0; i < 5; i++ {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			panic(err)
		}
		go bufio.NewReader(c).ReadString('\n')
		go func() { c, _ := l.Accept(); keep = append(keep, c) }()
	}
}

var concurrent sync.Map

//go:noinline
func shapeSyncMap() {
	for i := 0; i < 1000; i++ {
		concurrent.Store(i, i)
	}
}

//go:noinline
func shapeSelect() {
	for i := 0; i < 5; i++ {
		a, b := make(chan int), make(chan int)
		go func() {
			select {
			case <-a:
			case <-b:
			}
		}()
	}
}

//go:noinline
func shapeRunnable() {
	for i := 0; i < 40; i++ {
		go func() {
			for {
			}
		}()
	}
}

var heapSeen = map[string]bool{}
var out = bufio.NewWriter(os.Stdout)

func recordHeap() {
	runtime.GC()
	runtime.GC()
	records := make([]runtime.MemProfileRecord, 10000)
	n, _ := runtime.MemProfile(records, true)
	for _, record := range records[:n] {
		printStack("heap", record.Stack())
	}
}

func printStack(kind string, pcs []uintptr) {
	frames := runtime.CallersFrames(pcs)
	var names []string
	ours := ""
	for {
		frame, more := frames.Next()
		if frame.Function != "" {
			names = append(names, frame.Function)
		}
		if strings.HasPrefix(frame.Function, "main.shape") {
			ours = frame.Function
		}
		if !more {
			break
		}
	}
	text := kind + "\t" + strings.Join(names, " ")
	if (ours == "" && kind == "heap" && !strings.Contains(text, ".dialConn ") && !strings.Contains(text, "/internal/pool.")) || heapSeen[text] {
		return
	}
	heapSeen[text] = true
	fmt.Fprintln(out, text)
}

// What main runs; real/shapes has others.
var shapes = []func(){
	shapeAfterFunc,
	shapeTicker,
	shapeTimeAfter,
	shapeContext,
	shapeContextGoroutine,
	shapeBufferPool,
	shapeSlicePool,
	shapeSprintf,
	shapeJSON,
	shapeFinalizer,
	shapeAppend,
	shapeMap,
	shapeDefer,
	shapeSubslice,
	shapeBlockedSend,
	shapeBlockedReceive,
	shapeWaitGroup,
	shapeMutex,
	shapeCond,
	shapeTickerLoop,
	shapeSleep,
	shapeNil,
	shapeBody,
	shapeSQL,
	shapeBufio,
	shapeSyncMap,
	shapeSelect,
}

func main() {
	runtime.MemProfileRate = 1
	for _, shape := range shapes {
		shape()
	}
	time.Sleep(300 * time.Millisecond)
	recordHeap()
	// Last: they take every processor.
	shapeRunnable()
	time.Sleep(100 * time.Millisecond)
	// Stacks with the runtime's frames, and reasons apart.
	goroutines := make([]runtime.StackRecord, 10000)
	n, _ := runtime.GoroutineProfile(goroutines)
	for _, record := range goroutines[:n] {
		printStack("goroutine", record.Stack())
	}
	text := make([]byte, 1<<22)
	text = text[:runtime.Stack(text, true)]
	for _, one := range strings.Split(string(text), "\n\n") {
		lines := strings.Split(one, "\n")
		reason := lines[0][strings.Index(lines[0], "[")+1 : strings.Index(lines[0], "]")]
		reason = strings.Split(reason, ",")[0]
		var names []string
		created := ""
		for _, line := range lines[1:] {
			if strings.HasPrefix(line, "created by ") {
				created = strings.Split(strings.TrimPrefix(line, "created by "), " in goroutine")[0]
			} else if !strings.HasPrefix(line, "\t") && line != "" {
				names = append(names, line[:strings.LastIndex(line, "(")])
			}
		}
		line := "state\t" + reason + "\t" + strings.Join(names, " ") + "\t" + created
		if !heapSeen[line] {
			heapSeen[line] = true
			fmt.Fprintln(out, line)
		}
	}
	out.Flush()
}
