// Makes the compiler accept functions without a body (linkname), and gives the frame pointer.

//go:build amd64

#include "textflag.h"

// func framePointer() uintptr: of the caller, which has one.
TEXT ·framePointer(SB), NOSPLIT, $0-8
	MOVQ BP, ret+0(FP)
	RET
