//go:build !nosampler

package main

import (
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
)

// Whether it has printed the answer itself.
func ask(command, argument string) bool {
	switch command {
	case "profile":
		records := make([]runtime.MemProfileRecord, 20000)
		n, ok := runtime.MemProfile(records, true)
		if !ok {
			panic("too many records")
		}
		line := append([]byte(`{"rate":`), strconv.Itoa(runtime.MemProfileRate)...)
		line = append(line, `,"records":[`...)
		for i := range records[:n] {
			r := &records[i]
			if i > 0 {
				line = append(line, ',')
			}
			line = append(line, '[')
			for _, v := range []int64{r.AllocBytes, r.FreeBytes, r.AllocObjects, r.FreeObjects} {
				line = strconv.AppendInt(line, v, 10)
				line = append(line, ',')
			}
			line = append(line, '[')
			for j, pc := range r.Stack() {
				if j > 0 {
					line = append(line, ',')
				}
				line = strconv.AppendUint(line, uint64(pc), 10)
			}
			line = append(line, "]]"...)
		}
		os.Stdout.Write(append(line, "]}\n"...))
		return true
	case "heap":
		file, err := os.Create(argument)
		if err == nil {
			err = pprof.WriteHeapProfile(file)
		}
		if err == nil {
			err = file.Close()
		}
		if err != nil {
			panic(err)
		}
	}
	return false
}
