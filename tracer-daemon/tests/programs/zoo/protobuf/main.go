// Messages decoded by google.golang.org/protobuf and kept in a list for ever: 250 KB/s.
package main

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"example.com/leakline/programs/zoo/truth"
)

type history struct {
	next    *history
	message *structpb.Struct
}

var kept *history

func decode(wire []byte) *structpb.Struct {
	message := new(structpb.Struct)                        //site:message
	if err := proto.Unmarshal(wire, message); err != nil { //site:message
		panic(err)
	}
	return message
}

func encoded() []byte {
	message, err := structpb.NewStruct(map[string]any{
		// Shorter strings would share slots.
		"name of the sensor": "temperature of the third boiler from the left", "value in kelvins ": 351.25,
		"where it was hung": []any{"house number 1704", "on the second floor", "the one with the broken window"},
	})
	if err != nil {
		panic(err)
	}
	wire, err := proto.Marshal(message)
	if err != nil {
		panic(err)
	}
	return wire
}

func main() {
	run := truth.Start("protobuf")
	messages := run.Heap("message")
	wire := encoded()
	each := truth.Measured(400, func() any { return decode(wire) })
	run.Garbage(7<<20, 2304, 9472)
	run.Ready()
	run.Pace(each.PerSecond(250e3), func() {
		kept = &history{kept, decode(wire)} //also:message
		messages.Add(1, each)
	})
}
