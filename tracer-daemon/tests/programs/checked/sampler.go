//go:build sampler

package main

import "runtime"

// Read by nobody.
var profiled, _ = runtime.MemProfile(nil, false)
