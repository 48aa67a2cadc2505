package main

import (
	"bufio"
	"encoding/json"
	"os"
	"reflect"
	"runtime"
	"strconv"
	_ "unsafe" // for linkname
)

// What runtime/pprof uses to expand an address to the virtual addresses of its inlined calls. (Since Go 1.23
// CallersFrames does that by itself, before it did not.)
//
//go:linkname expand runtime/pprof.runtime_expandFinalInlineFrame
func expand(stack []uintptr) []uintptr

type frame struct {
	Function  string `json:"function"`
	File      string `json:"file"`
	Line      int    `json:"line"`
	StartLine int    `json:"start_line"`
}

type answer struct {
	Main   uint64   `json:"main"`
	PCs    []uint64 `json:"pcs"`
	Frames []frame  `json:"frames"`
}

var out = json.NewEncoder(os.Stdout)

func say(pcs []uint64, frames []frame) {
	if err := out.Encode(answer{uint64(reflect.ValueOf(main).Pointer()), pcs, frames}); err != nil {
		panic(err)
	}
}

func framesOf(pcs []uintptr) []frame {
	result := []frame{}
	if len(pcs) == 0 {
		return result
	}
	frames := runtime.CallersFrames(pcs)
	for {
		next, more := frames.Next()
		if next.PC != 0 {
			result = append(result, frame{next.Function, next.File, next.Line, startLine(&next)})
		}
		if !more {
			return result
		}
	}
}

func answerPCs() {
	buffered := bufio.NewWriter(os.Stdout)
	defer buffered.Flush()
	out = json.NewEncoder(buffered)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		offset, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			panic(err)
		}
		pc := reflect.ValueOf(main).Pointer() + uintptr(offset)
		say([]uint64{uint64(pc)}, framesOf(expand([]uintptr{pc})))
	}
}
