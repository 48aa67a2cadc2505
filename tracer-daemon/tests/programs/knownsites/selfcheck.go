//go:build selfcheck

package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

func init() {
	runtime.MemProfileRate = 1
	selfcheck = check
}

// place is what the profile is summed by: the first frame of package main.
type place struct {
	function string
	line     int
}

// own are the functions of this file, and what no line of the program stands behind.
var own = map[string]bool{"main.check": true, "main.profile": true, "main.placeOf": true, "runtime": true}

type amount struct{ objects, bytes int }

// check runs the phase under the runtime's own profiler and compares; then it counts each site alone with MemStats.
func check() error {
	before := profile()
	var statsBefore, statsAfter runtime.MemStats
	runtime.ReadMemStats(&statsBefore)
	phase()
	runtime.ReadMemStats(&statsAfter)
	counted := profile()
	for where, was := range before {
		now := counted[where]
		counted[where] = amount{now.objects - was.objects, now.bytes - was.bytes}
	}

	var problems []error
	expected := makeTruth()
	for _, site := range expected.Sites {
		where := place{site.Function, site.Line}
		got := counted[where]
		delete(counted, where)
		want := amount{site.Objects, got.bytes}
		if site.Bytes != nil {
			want.bytes = *site.Bytes
		}
		fmt.Printf("%-9s %-28s %s:%-4d objects %6d bytes %9d", site.Name, site.Function, site.File, site.Line, want.objects, want.bytes)
		switch {
		case site.Tiny:
			fmt.Printf("  (profile sees %d blocks)\n", got.objects)
		case got == want:
			fmt.Println("  equal")
		default:
			fmt.Printf("  PROFILE SAYS %d objects, %d bytes\n", got.objects, got.bytes)
			problems = append(problems, fmt.Errorf("%s: profile %+v", site.Name, got))
		}
	}
	for where, got := range counted {
		if got.objects != 0 && !own[where.function] {
			problems = append(problems, fmt.Errorf("not in the truth: %+v %+v", where, got))
		}
	}
	mallocs := int(statsAfter.Mallocs - statsBefore.Mallocs)
	fmt.Printf("%s: mallocs %d, truth %d, by the runtime itself %d; collections %d\n", expected.GoVersion, mallocs, expected.Objects,
		mallocs-expected.Objects, statsAfter.NumGC-statsBefore.NumGC)
	return joined(append(problems, checkAlone()...))
}

// checkAlone counts single sites with MemStats, which is the only exact witness for tiny objects.
func checkAlone() []error {
	w := &workers[0]
	sites := []struct {
		name     string
		call     func()
		expected uint64
	}{
		{"tiny", w.tiny, 1}, {"boxed", w.box, 1}, {"small", w.small, 1}, {"odd", w.odd, 1}, {"pointers", w.pointers, 1},
		{"header", w.header, 1}, {"large", w.large, 1}, {"grow", w.grow, 1}, {"concat", w.concat, 1}, {"empty", w.empty, 0},
	}
	runtime.MemProfileRate = 0
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const calls = 1000
	var problems []error
	for _, site := range sites {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := 0; i < calls; i++ {
			site.call()
		}
		runtime.ReadMemStats(&after)
		if mallocs := after.Mallocs - before.Mallocs; mallocs != site.expected*calls {
			problems = append(problems, fmt.Errorf("%s: %d mallocs in %d calls", site.name, mallocs, calls))
		}
	}
	if one, known := objectsOfOnePull[minor(runtime.Version())]; known && pullIsBuilt {
		const rounds = 10
		closures := pulled - (pulled+2)/3 // of `yield`: only a coroutine that ran made one
		if minor(runtime.Version()) == "go1.22" {
			closures = pulled
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := 0; i < rounds; i++ {
			pullAll()
		}
		runtime.ReadMemStats(&after)
		mallocs := int(after.Mallocs - before.Mallocs)
		if want := rounds * (pulled*one + closures); mallocs != want {
			problems = append(problems, fmt.Errorf("pulled: %d mallocs, expected %d", mallocs, want))
		}
	}
	if problems == nil {
		fmt.Fprintf(os.Stdout, "%d sites alone and pulled: MemStats agrees\n", len(sites))
	}
	return problems
}

// joined is errors.Join, which go1.19 does not have.
func joined(problems []error) error {
	if len(problems) == 0 {
		return nil
	}
	lines := make([]string, len(problems))
	for i, problem := range problems {
		lines[i] = problem.Error()
	}
	return fmt.Errorf("%s", strings.Join(lines, "\n"))
}

// profile sums the runtime's profile by place. Two collections publish what was allocated before the first.
func profile() map[place]amount {
	runtime.GC()
	runtime.GC()
	runtime.GC()
	records := make([]runtime.MemProfileRecord, 0)
	for {
		n, ok := runtime.MemProfile(records, true)
		if ok {
			records = records[:n]
			break
		}
		records = make([]runtime.MemProfileRecord, n+50)
	}
	sums := map[place]amount{}
	for _, record := range records {
		where := placeOf(record.Stack())
		sum := sums[where]
		sum.objects += int(record.AllocObjects)
		sum.bytes += int(record.AllocBytes)
		sums[where] = sum
	}
	return sums
}

func placeOf(stack []uintptr) place {
	frames := runtime.CallersFrames(stack)
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, "main.") {
			return place{frame.Function, frame.Line}
		}
		if !more {
			return place{"runtime", 0}
		}
	}
}
