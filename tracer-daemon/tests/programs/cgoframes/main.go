// Command cgoframes allocates in Go code that C code calls. It says "ready", and after each line on stdin, which is a
// number, allocates so many objects of 4,096 bytes on each of two paths and says "done":
//
//	main.main, main.throughC, c_outer, c_inner, c_hidden (static), main.goAllocate
//	a thread of C, c_thread (static), main.goOnThread
package main

/*
#cgo CFLAGS: -O1 -fno-omit-frame-pointer
#include "calls.h"
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
)

var kept []*[4096]byte

//export goAllocate
func goAllocate(objects C.int) {
	kept = kept[:0]
	for i := 0; i < int(objects); i++ {
		kept = append(kept, new([4096]byte)) //site:called
	}
}

//export goOnThread
func goOnThread(objects C.int) {
	kept = kept[:0]
	for i := 0; i < int(objects); i++ {
		kept = append(kept, new([4096]byte)) //site:thread
	}
}

//go:noinline
func throughC(objects int) {
	C.c_outer(C.int(objects))
}

func main() {
	kept = make([]*[4096]byte, 0, 1<<16)
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		objects, err := strconv.Atoi(lines.Text())
		if err != nil {
			panic(err)
		}
		throughC(objects)
		C.c_on_thread(C.int(objects))
		fmt.Println("done")
	}
}
