// SPDX-License-Identifier: GPL-3.0-or-later

//go:build linux && !cgo

#include "textflag.h"

#define SYS_rt_sigaction 13
#define SIG_IGN 1
#define EINVAL 22

// recordDisposition(sig, new, old) is called with the C convention, on a stack
// large enough, in place of each rt_sigaction of the runtime, and first of all
// before the runtime has set a handler. It notes whether sig was ignored when
// it is asked about it for the first time, and leaves the call itself to the
// runtime, which makes it when it is told EINVAL.
TEXT ·recordDisposition(SB), NOSPLIT|NOFRAME, $0
	LEAQ	-1(DI), CX
	MOVL	$1, R9
	SHLQ	CX, R9               // the bit of the signal, as in SigIgn of proc(5)
	MOVQ	·seen(SB), AX
	TESTQ	R9, AX
	JNZ	done
	ORQ	R9, AX
	MOVQ	AX, ·seen(SB)
	SUBQ	$56, SP              // struct kernel_sigaction is 32 bytes; keeps SP aligned
	MOVQ	R9, 40(SP)
	MOVQ	$0, 0(SP)
	MOVQ	$0, SI
	MOVQ	SP, DX
	MOVQ	$8, R10
	MOVQ	$SYS_rt_sigaction, AX
	SYSCALL
	MOVQ	0(SP), AX
	MOVQ	40(SP), R9
	ADDQ	$56, SP
	CMPQ	AX, $SIG_IGN
	JNE	done
	ORQ	R9, ·ignored(SB)
done:
	MOVL	$EINVAL, AX
	RET
