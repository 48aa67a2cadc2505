// Package peer gives a program of the zoo someone to talk to: itself, started once more in another process, so that what the other side
// needs is not in the heap that is looked at. The child ends with its parent.
package peer

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
)

// In the environment of a child: the address that it shall talk to, or `listen`.
const variable = "ZOO_PEER"

var pipes []io.Closer

// Serve starts a server on loopback and returns its address. In the child it calls serve and does not return.
func Serve(serve func(net.Listener)) string {
	if os.Getenv(variable) != "" {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		check(err)
		fmt.Println(listener.Addr())
		go serve(listener)
		untilParentEnds()
	}
	child := command("listen")
	out, err := child.StdoutPipe()
	check(err)
	check(child.Start())
	address, err := bufio.NewReader(out).ReadString('\n')
	check(err)
	return strings.TrimSpace(address)
}

// Load starts a client of the address, whose work is load. In the child it does not return, and the address is ignored.
func Load(address func() string, load func(address string)) {
	if at := os.Getenv(variable); at != "" {
		go load(at)
		untilParentEnds()
	}
	check(command(address()).Start())
}

func command(with string) *exec.Cmd {
	executable, err := os.Executable()
	check(err)
	child := exec.Command(executable)
	child.Env = append(os.Environ(), variable+"="+with)
	child.Stderr = os.Stderr
	// Nothing is ever written: it closes when this process ends, however that is, and not before since it is kept.
	pipe, err := child.StdinPipe()
	check(err)
	pipes = append(pipes, pipe)
	return child
}

func untilParentEnds() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
