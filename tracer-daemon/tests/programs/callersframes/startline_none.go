//go:build !go1.20

package main

import "runtime"

// Before Go 1.20 no table says where a function begins.
func startLine(*runtime.Frame) int { return 0 }
