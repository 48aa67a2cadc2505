// Memfd executes a copy of a program that has no name in any file system.
//
// Arguments: the program, then its arguments. The pid stays. It copies the program into a file of memfd_create(2) and
// executes that; on failure it says why on stderr and exits with 1.
//
// Known numbers: none of its own.
package main

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"unsafe"
)

// SYS_MEMFD_CREATE of amd64, which package syscall does not have.
const memfdCreate = 319

func main() {
	fmt.Fprintln(os.Stderr, "memfd:", run())
	os.Exit(1)
}

func run() error {
	source, err := os.Open(os.Args[1])
	if err != nil {
		return err
	}
	name := []byte("program\x00")
	fd, _, errno := syscall.RawSyscall(memfdCreate, uintptr(unsafe.Pointer(&name[0])), 0, 0)
	if errno != 0 {
		return errno
	}
	copied := os.NewFile(fd, "memfd")
	if _, err := io.Copy(copied, source); err != nil {
		return err
	}
	// Open for writing it could not be executed.
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	readable, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err != nil {
		return err
	}
	if err := copied.Close(); err != nil {
		return err
	}
	return syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", readable), os.Args[1:], os.Environ())
}
