// Execself replaces its program image in place, so that a tracer sees a process whose pid stays and whose binary changes.
//
// It prints `ready PID STAGE` and waits for a line on stdin: `self` executes this binary again (STAGE is one more),
// `sleep` executes /bin/sleep 60, which is no Go program. End of input: exit 0.
//
// Known numbers: the pid never changes; STAGE begins at 0; between two lines 1,000 objects of 128 bytes are
// allocated at the line marked below, once after each `ready`.
package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
)

const objects = 1000

var sink []byte

func main() {
	stage := 0
	if len(os.Args) > 1 {
		stage, _ = strconv.Atoi(os.Args[1])
	}
	fmt.Printf("ready %d %d\n", os.Getpid(), stage)
	allocate(objects)
	var command string
	for {
		// Fscanln reads byte by byte: what follows the line is left for the next image.
		_, err := fmt.Fscanln(os.Stdin, &command)
		if err == io.EOF {
			return
		}
		switch command {
		case "self":
			var path string
			if path, err = os.Executable(); err == nil {
				err = syscall.Exec(path, []string{path, strconv.Itoa(stage + 1)}, os.Environ())
			}
		case "sleep":
			err = syscall.Exec("/bin/sleep", []string{"sleep", "60"}, os.Environ())
		default:
			err = fmt.Errorf("unknown command %q", command)
		}
		fmt.Fprintln(os.Stderr, "execself:", err)
		os.Exit(1)
	}
}

//go:noinline
func allocate(count int) {
	for ; count > 0; count-- {
		sink = make([]byte, 128) //site:execself
	}
}
