// SPDX-License-Identifier: GPL-3.0-or-later

//go:build linux && !cgo

#include "textflag.h"

#define SYS_rt_sigaction 134
#define SIG_IGN 1
#define EINVAL 22

// See inherited_amd64.s.
TEXT ·recordDisposition(SB), NOSPLIT|NOFRAME, $0
	SUB	$1, R0, R9
	MOVD	$1, R10
	LSL	R9, R10, R10         // the bit of the signal, as in SigIgn of proc(5)
	MOVD	·seen(SB), R11
	TST	R10, R11
	BNE	done
	ORR	R10, R11, R11
	MOVD	R11, ·seen(SB)
	SUB	$48, RSP             // struct kernel_sigaction is 32 bytes
	MOVD	R10, 32(RSP)
	MOVD	ZR, 0(RSP)
	MOVD	ZR, R1
	MOVD	RSP, R2
	MOVD	$8, R3
	MOVD	$SYS_rt_sigaction, R8
	SVC
	MOVD	0(RSP), R12
	MOVD	32(RSP), R10
	ADD	$48, RSP
	CMP	$SIG_IGN, R12
	BNE	done
	MOVD	·ignored(SB), R11
	ORR	R10, R11, R11
	MOVD	R11, ·ignored(SB)
done:
	MOVD	$EINVAL, R0
	RET
