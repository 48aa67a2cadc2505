package main

import (
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

const (
	pageBytes = 4096
	lieBytes  = 1 << 20
	pushBP    = 0x55
	popBP     = 0x5d
	ret       = 0xc3
)

// call runs an instruction at an address, which returns, with R14, AX, BX and BP as given.
func call(address, goroutine, size, kind, frame uintptr)

func fail(what string, err error) {
	fmt.Fprintln(os.Stderr, "unruly:", what, err)
	os.Exit(1)
}

func mapped(file int, offset int64, bytes int) []byte {
	flags := syscall.MAP_PRIVATE
	if file < 0 {
		flags |= syscall.MAP_ANON
	}
	memory, err := syscall.Mmap(file, offset, bytes, syscall.PROT_READ|syscall.PROT_WRITE, flags)
	if err != nil {
		fail("mmap", err)
	}
	return memory
}

// lie maps the page of a probe point once more: whoever puts a breakpoint there puts it into this copy, too. Behind the probed
// instruction the copy returns at once, so that it can be called with whatever registers. The point is a file offset, the third argument.
func lie() {
	offset, err := strconv.ParseInt(os.Args[3], 10, 64)
	if err != nil {
		fail("no file offset:", err)
	}
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		fail("exe:", err)
	}
	code := mapped(int(exe.Fd()), offset&^(pageBytes-1), 2*pageBytes)
	at := int(offset & (pageBytes - 1))
	if code[at] != pushBP {
		fail("no push rbp at", fmt.Errorf("%#x", offset))
	}
	code[at+1], code[at+2] = popBP, ret
	if err := syscall.Mprotect(code, syscall.PROT_READ|syscall.PROT_EXEC); err != nil {
		fail("mprotect:", err)
	}
	lies := mapped(-1, 0, lieBytes)
	words := (*[lieBytes / 8]uintptr)(unsafe.Pointer(&lies[0]))
	base := uintptr(unsafe.Pointer(&lies[0]))
	random := rand.New(rand.NewSource(1))
	anywhere := func() uintptr { return base + uintptr(random.Intn(lieBytes/8-1024))*8 }
	for i := range words {
		switch random.Intn(4) {
		case 0, 1:
			words[i] = anywhere()
		case 2:
			words[i] = uintptr(random.Uint64())
		default:
			words[i] = uintptr(random.Intn(1 << 22))
		}
	}
	address := uintptr(unsafe.Pointer(&code[at]))
	go func() {
		for {
			kind, frame := anywhere(), anywhere()
			if random.Intn(4) == 0 {
				kind, frame = uintptr(random.Uint64()), uintptr(random.Uint64())
			}
			call(address, anywhere(), uintptr(random.Intn(40000)), kind, frame)
		}
	}()
}
