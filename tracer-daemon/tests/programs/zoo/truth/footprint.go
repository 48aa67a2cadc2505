package truth

import (
	"math"
	"reflect"
	"runtime"
	"strconv"
	"strings"
)

// Footprint is what an object, or all that one operation leaves behind, takes of the heap: bytes by slot size. Slot 0 stands
// for objects that have a span each.
type Footprint map[int]float64

// Slot sizes of Go's allocator, the same from 1.19 to 1.27 (runtime/sizeclasses.go).
var slots = []int{
	8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 416, 448,
	480, 512, 576, 640, 704, 768, 896, 1024, 1152, 1280, 1408, 1536, 1792, 2048, 2304, 2688, 3072, 3200, 3456, 4096,
	4864, 5376, 6144, 6528, 6784, 6912, 8192, 9472, 9728, 10240, 10880, 12288, 13568, 14336, 16384, 18432, 19072,
	20480, 21760, 24576, 27264, 28672, 32768,
}

const page = 8192

// Plain is an object without pointers, of at least 16 bytes: smaller ones share a slot.
func Plain(bytes int) Footprint {
	if bytes < 16 {
		panic("objects below 16 bytes without pointers share slots")
	}
	return slotOf(bytes)
}

// Of is new(T).
func Of[T any]() Footprint {
	kind := reflect.TypeOf((*T)(nil)).Elem()
	bytes := int(kind.Size())
	if !hasPointers(kind) {
		return Plain(bytes)
	}
	// Since go1.22 such objects above 512 bytes have a header of 8 bytes (runtime/mbitmap.go, heapBitsInSpan).
	if bytes > 512 && minor() >= 22 && bytes+8 <= slots[len(slots)-1] {
		bytes += 8
	} else if bytes > 512 && minor() >= 22 && bytes <= slots[len(slots)-1] {
		return Footprint{0: float64((bytes + page - 1) / page * page)}
	}
	return slotOf(bytes)
}

// Plus is both.
func (f Footprint) Plus(other Footprint) Footprint {
	sum := Footprint{}
	for _, one := range []Footprint{f, other} {
		for slot, bytes := range one {
			sum[slot] += bytes
		}
	}
	return sum
}

// PerSecond is how many of them a second make so many bytes a second.
func (f Footprint) PerSecond(bytes float64) float64 { return bytes / f.Bytes() }

// Bytes is the sum.
func (f Footprint) Bytes() (sum float64) {
	for _, bytes := range f {
		sum += bytes
	}
	return sum
}

// Measured is what one call of operation leaves behind on average, where the result is all that keeps it. To be called
// before anything else runs. The result must be a pointer, so that keeping it takes nothing.
func Measured(times int, operation func() any) Footprint {
	kept := make([]any, times)
	var before, after runtime.MemStats
	operation() // whatever happens the first time only
	settle(&before)
	for i := range kept {
		kept[i] = operation()
	}
	settle(&after)
	runtime.KeepAlive(kept)
	each := Footprint{}
	others := float64(after.HeapAlloc) - float64(before.HeapAlloc)
	for i, class := range after.BySize {
		slot := float64(class.Size)
		live := float64(class.Mallocs-class.Frees) - float64(before.BySize[i].Mallocs-before.BySize[i].Frees)
		others -= live * slot
		if count := roughly(live / float64(times)); count != 0 {
			each[int(class.Size)] = count * slot
		}
	}
	// Above BySize: of the larger slots nothing else is known.
	if bytes := others / float64(times); bytes > 64 {
		each[0] = bytes
	}
	return each
}

// What else happens in a process is a small part of an object.
func roughly(count float64) float64 {
	if whole := math.Round(count); math.Abs(count-whole) < 0.1 {
		return whole
	}
	return count
}

func settle(stats *runtime.MemStats) {
	// Pools are empty after two collections; finalizers of the first run before the third.
	for i := 0; i < 3; i++ {
		runtime.GC()
	}
	runtime.ReadMemStats(stats)
}

// Objects as far as sizes tell: the larger ones count one each.
func (f Footprint) objects() (sum float64) {
	for slot, bytes := range f {
		if slot == 0 {
			sum++
		} else {
			sum += bytes / float64(slot)
		}
	}
	return sum
}

func slotOf(bytes int) Footprint {
	for _, slot := range slots {
		if slot >= bytes {
			return Footprint{slot: float64(slot)}
		}
	}
	return Footprint{0: float64((bytes + page - 1) / page * page)}
}

func hasPointers(kind reflect.Type) bool {
	switch kind.Kind() {
	case reflect.Array:
		return kind.Len() > 0 && hasPointers(kind.Elem())
	case reflect.Struct:
		for i := 0; i < kind.NumField(); i++ {
			if hasPointers(kind.Field(i).Type) {
				return true
			}
		}
		return false
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8,
		reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr, reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return false
	}
	return true
}

// The 22 of go1.22.12.
func minor() int {
	parts := strings.Split(runtime.Version(), ".")
	if len(parts) < 2 {
		return 99
	}
	number, err := strconv.Atoi(parts[1])
	if err != nil {
		return 99
	}
	return number
}
