package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
)

// source is this program's own text: the lines of the truth are found by their `//site:NAME` marks.
//
//go:embed *.go
var source embed.FS

// truth is what a perfect observer counts between `go` and `done`.
type truth struct {
	GoVersion  string          `json:"go_version"`
	Sites      []siteTruth     `json:"sites"`
	Goroutines []goroutineLine `json:"goroutines"`
	// Objects is the sum over Sites.
	Objects int `json:"objects"`
}

// siteTruth is one allocating line.
type siteTruth struct {
	Name     string `json:"name"`
	Function string `json:"function"`
	File     string `json:"file"`
	Line     int    `json:"line"`
	Objects  int    `json:"objects"`
	// Bytes are slot bytes, of tiny objects requested bytes; absent where not claimed.
	Bytes *int `json:"bytes,omitempty"`
	// Tiny: some objects are smaller than 16 bytes and hold no pointers, so several share one slot.
	Tiny bool `json:"tiny"`
	// Paths has the objects of each different stack that leads here; absent where not claimed.
	Paths []int `json:"paths,omitempty"`
	// Allocator is the frame below the runtime where that is not Function.
	Allocator string `json:"allocator,omitempty"`
}

// goroutineLine is one line that starts goroutines.
type goroutineLine struct {
	Name string `json:"name"`
	// Function, File, Line: the first frame of this program on the creation stack; where none is, the creator.
	Function string `json:"function"`
	File     string `json:"file"`
	// Line is 0 where the creator is in the standard library: its line depends on the Go version.
	Line int `json:"line"`
	// Creator is the function with the `go` statement (what the goroutine table alone can tell).
	Creator string `json:"creator"`
	Entry   string `json:"entry"`
	Created int    `json:"created"`
	Exited  int    `json:"exited"`
	Live    int    `json:"live"`
	// Stacks is the number of different creation stacks; 0: not claimed.
	Stacks     int    `json:"stacks"`
	WaitReason string `json:"wait_reason,omitempty"`
}

// objectsOfOnePull: iter.Pull allocates its closures and captured variables in the frame of the caller's line; how many is
// a matter of each Go release (proved by the selfcheck). Unknown releases claim nothing for that line, and none
// claims bytes: up to 1.24 some of them are tiny. The `yield` closure is not among them: the coroutine makes
// it in iter.Pull[...].func1, on a stack without any frame of this program.
var objectsOfOnePull = map[string]int{
	"go1.22": 8, "go1.23": 11, "go1.24": 11, "go1.25": 5, "go1.26": 5, "go1.27": 5,
}

func encodeTruth() []byte {
	encoded, err := json.Marshal(makeTruth())
	if err != nil {
		panic(err)
	}
	return encoded
}

func makeTruth() truth {
	t := truth{GoVersion: runtime.Version()}
	t.site("tiny", "main.(*worker).tiny", 5, tinyObjects)
	t.site("boxed", "main.(*worker).box", 8, boxedObjects)
	t.Sites[0].Tiny, t.Sites[1].Tiny = true, true
	t.site("small", "main.(*worker).small", 48, smallObjects)
	t.site("odd", "main.(*worker).odd", 112, oddObjects)
	t.site("pointers", "main.(*worker).pointers", 64, pointerObjects)
	t.site("header", "main.(*worker).header", headerSlot(minor(t.GoVersion)), headerObjects)
	t.site("large", "main.(*worker).large", 13*8192, largeObjects)
	t.site("grow", "main.(*worker).grow", 1024, growObjects)
	t.site("concat", "main.(*worker).concat", 48, concatObjects)
	t.site("empty", "main.(*worker).empty", 0)
	t.site("generic", "main.generic[...]", 32, genericPlain, genericPointers)
	*t.Sites[len(t.Sites)-1].Bytes = 32*genericPlain + 48*genericPointers
	t.site("shared", "main.(*worker).shared", 128, sharedFirst, sharedSecond)
	t.site("inlined", "main.(*worker).inlined", 80, inlinedFirst, inlinedSecond, inlinedThird)
	t.site("workers", "main.startWorkers", 16, len(workers))
	t.site("nested", "main.spawnNested", 16, nestedFirst, nestedSecond)
	if one, known := objectsOfOnePull[minor(t.GoVersion)]; known && pullIsBuilt {
		t.site("pulled", "main.pullAll", 0, pulled*one)
		last := &t.Sites[len(t.Sites)-1]
		last.Bytes, last.Paths, last.Allocator = nil, nil, "iter.Pull[...]"
		last.Tiny = one > 5
	}
	for _, site := range t.Sites {
		t.Objects += site.Objects
	}

	t.goroutines("workers", "main.startWorkers", "", "main.(*worker).run", len(workers), 1)
	t.goroutines("short", "main.spawnShort", "", "main.end", short, 1)
	t.goroutines("staying", "main.spawnStaying", "", "main.stay", staying, 1)
	stay := &t.Goroutines[len(t.Goroutines)-1]
	stay.Exited, stay.Live, stay.WaitReason = 0, staying, "select (no cases)"
	t.goroutines("nested", "main.spawnNested", "", "main.spawnNested.func1", nestedFirst+nestedSecond, 2)
	t.Goroutines = append(t.Goroutines, goroutineLine{
		Name: "timers", Function: "time.goFunc", Creator: "time.goFunc", Entry: "main.end",
		Created: timersFired, Exited: timersFired,
	})
	if contextsAreBuilt {
		t.goroutines("contexts", "main.cancelContexts", "context.(*afterFuncCtx).cancel.func1", "main.end", contexts, 1)
	}
	if pullIsBuilt {
		t.goroutines("pulled", "main.pullAll", "iter.Pull[...]", "runtime.corostart", pulled, 1)
	}
	return t
}

// headerSlot is the slot of 640 bytes with pointers: go1.22 put a header of 8 bytes before the object, so that 704 are needed.
func headerSlot(minor string) int {
	switch minor {
	case "go1.19", "go1.20", "go1.21":
		return 640
	}
	return 704
}

// site adds a line whose paths allocate that many objects each.
func (t *truth) site(name, function string, slotBytes int, paths ...int) {
	site := siteTruth{Name: name, Function: function, Paths: paths}
	site.File, site.Line = lineOf(name)
	for _, objects := range paths {
		site.Objects += objects
	}
	bytes := site.Objects * slotBytes
	site.Bytes = &bytes
	t.Sites = append(t.Sites, site)
}

// goroutines adds a line that started count goroutines which have all ended; an empty creator means function.
func (t *truth) goroutines(name, function, creator, entry string, count, stacks int) {
	if creator == "" {
		creator = function
	}
	line := goroutineLine{
		Name: name, Function: function, Creator: creator, Entry: entry,
		Created: count, Exited: count, Stacks: stacks,
	}
	line.File, line.Line = lineOf(name)
	t.Goroutines = append(t.Goroutines, line)
}

// lineOf finds the mark of a site in the source.
func lineOf(name string) (file string, line int) {
	entries, err := source.ReadDir(".")
	if err != nil {
		panic(err)
	}
	for _, entry := range entries {
		text, err := source.ReadFile(entry.Name())
		if err != nil {
			panic(err)
		}
		for i, content := range strings.Split(string(text), "\n") {
			if strings.HasSuffix(content, "//site:"+name) {
				return entry.Name(), i + 1
			}
		}
	}
	panic("no mark //site:" + name)
}

// minor makes "go1.26" of "go1.26.6-X:nogreenteagc".
func minor(version string) string {
	var major, number int
	if _, err := fmt.Sscanf(version, "go%d.%d", &major, &number); err != nil {
		return version
	}
	return fmt.Sprintf("go%d.%d", major, number)
}
