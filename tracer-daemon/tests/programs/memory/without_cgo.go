//go:build !cgo

package main

func takeNative(bytes int) {
	panic("built without cgo")
}
