// Checked is a program for `leakline check`: it keeps a set of things alive, makes garbage, and leaks where it is told to.
//
//	checked [-leak BYTES] [-other BYTES] [-listen ADDRESS] [-exit STATUS -after DURATION] [-ready-after DURATION]
//
// Bytes are per second. The lines that leak are marked; `-leak` is the second one's, `-other` the first one's. It collects five
// times a second, so that verdicts come as fast as they can, and says "serving" when it is ready. With -listen it answers 503 until
// then, and 200 from then on. It ends at SIGTERM and SIGINT, and says which it was; with -deaf it does not.
//
// Built with the tag `sampler`, it can be asked for a profile, so that the linker leaves the sampler on.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// Of what leaks: a size class that nothing else here uses.
const pieceBytes = 4096

type session struct{ data []byte }

var (
	others   []*session
	sessions []*session
	steady   [256][]byte
	ready    int32
)

//go:noinline
func keepOther() {
	others = append(others, &session{make([]byte, 1024)}) // LEAK other
}

//go:noinline
func keepSession() {
	sessions = append(sessions, &session{make([]byte, pieceBytes)}) // LEAK session
}

//go:noinline
func churn(n int) {
	steady[n%len(steady)] = make([]byte, 2048)
}

func main() {
	leak := flag.Int("leak", 0, "bytes per second that leak")
	other := flag.Int("other", 0, "bytes per second that another line leaks")
	listen := flag.String("listen", "", "address to answer on")
	status := flag.Int("exit", 0, "status to exit with")
	after := flag.Duration("after", 0, "when to exit; 0: never")
	readyAfter := flag.Duration("ready-after", 0, "when to be ready")
	deaf := flag.Bool("deaf", false, "do not end at signals")
	flag.Parse()

	if *listen != "" {
		listener, err := net.Listen("tcp", *listen)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go answer(listener)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	var end <-chan time.Time
	if *after > 0 {
		end = time.After(*after)
	}
	becomesReady := time.After(*readyAfter)
	tick := time.NewTicker(10 * time.Millisecond)
	collect := time.NewTicker(200 * time.Millisecond)
	begin := time.Now()
	var keptSessions, keptOthers, n int
	for {
		select {
		case <-becomesReady:
			atomic.StoreInt32(&ready, 1)
			fmt.Println("serving")
		case <-tick.C:
			passed := time.Since(begin).Seconds()
			for ; float64(keptSessions*pieceBytes) < passed*float64(*leak); keptSessions++ {
				keepSession()
			}
			for ; float64(keptOthers*1024) < passed*float64(*other); keptOthers++ {
				keepOther()
			}
			for i := 0; i < 64; i++ {
				churn(n)
				n++
			}
		case <-collect.C:
			runtime.GC()
		case <-end:
			os.Exit(*status)
		case got := <-signals:
			fmt.Println("got", got)
			if !*deaf {
				os.Exit(0)
			}
		}
	}
}

func answer(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		request := make([]byte, 1024)
		connection.Read(request)
		text := "HTTP/1.0 503 Service Unavailable\r\n\r\n"
		if atomic.LoadInt32(&ready) == 1 {
			text = "HTTP/1.0 200 OK\r\n\r\n"
		}
		connection.Write([]byte(text))
		connection.Close()
	}
}
