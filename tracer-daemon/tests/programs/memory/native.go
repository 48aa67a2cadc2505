package main

/*
#include <stdlib.h>
#include <string.h>

static void take(size_t pieces) {
	for (size_t i = 0; i < pieces; i++) {
		void *piece = malloc(64 << 10);
		if (piece) {
			memset(piece, 1, 64 << 10);
		}
	}
}
*/
import "C"

// Takes memory that no collector knows of, and never gives it back.
func takeNative(bytes int) {
	C.take(C.size_t(bytes / (64 << 10)))
}
