// A cache makes deep copies by way of JSON, and nobody deletes them: 500 KB/s in the garbage of encoding and decoding.
package main

import (
	"encoding/json"

	"example.com/leakline/programs/zoo/truth"
)

type item struct {
	SKU, Description string
	Cents            int
	Tags             []string
}

type order struct {
	ID    int
	Items []item
}

type copies struct {
	next *copies
	held *order
}

var cache *copies

func deepCopy(of *order) *order {
	text, err := json.Marshal(of)
	if err != nil {
		panic(err)
	}
	fresh := new(order)                                 //site:copy
	if err := json.Unmarshal(text, fresh); err != nil { //site:copy
		panic(err)
	}
	return fresh
}

func main() {
	run := truth.Start("json_copies")
	made := run.Heap("copy")
	template := order{1, make([]item, 20)}
	for i := range template.Items {
		template.Items[i] = item{"sku-0815-4711-blue", "one of the things that people buy here most", 1995, []string{"blue, green and some yellow", "extra extra large"}}
	}
	each := truth.Measured(200, func() any { return deepCopy(&template) })
	run.Garbage(12<<20, 2304, 9472)
	run.Ready()
	run.Pace(each.PerSecond(500e3), func() {
		cache = &copies{cache, deepCopy(&template)} //also:copy
		made.Add(1, each)
	})
}
