#include "textflag.h"

// func call(address, goroutine, size, kind, frame uintptr)
TEXT ·call(SB), NOSPLIT, $16-40
	MOVQ	R14, saved-8(SP)
	MOVQ	address+0(FP), DX
	MOVQ	goroutine+8(FP), R14
	MOVQ	size+16(FP), AX
	MOVQ	kind+24(FP), BX
	MOVQ	frame+32(FP), BP
	CALL	DX
	MOVQ	saved-8(SP), R14
	RET
