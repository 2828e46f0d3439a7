/* A spiking network with ternary weights. Written by tnacli @VERSION@.
 *
 * From: @ORIGIN@
 * Input: @INPUT@, the last index running fastest.
@OPERATIONS@
@FLOATS@
 * Compile with -std=c99 or -ffp-contract=off: fused multiplications and additions would round otherwise than the
 * network was checked with. Before the source file is compiled these may be defined, say with -D:
@END@
@INTEGERS@
 * It computes in whole numbers alone. Before the source file is compiled these may be defined, say with -D:
@END@
 *   @PREFIX_UPPER@_TABLE           put at every table of weights, constants by channel too: PROGMEM, or __attribute__((section("...")))
 *   @PREFIX_UPPER@_BYTE(address)   how a byte of a table is read, and
@FLOATS@
 *   @PREFIX_UPPER@_FLOAT(address)  a float, where a pointer does not do: pgm_read_byte and pgm_read_float
@END@
@INTEGERS@
 *   @PREFIX_UPPER@_WORD(address)   four bytes, where a pointer does not do: pgm_read_byte and pgm_read_dword
@END@
 *   @PREFIX_UPPER@_CALLERS_MEMORY  leaves out what computes in static memory */
#ifndef @PREFIX_UPPER@_H
#define @PREFIX_UPPER@_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define @PREFIX_UPPER@_INPUTS @INPUTS@
#define @PREFIX_UPPER@_CLASSES @CLASSES@
#define @PREFIX_UPPER@_LOGIT @NUMBER@ /* what a logit is */
#define @PREFIX_UPPER@_TIMESTEPS @TIMESTEPS@
#define @PREFIX_UPPER@_RAM_BYTES @RAM_BYTES@ /* that a call computes in; the stack comes on top */

/* The names of the classes, UTF-8; costs no memory where it is not used. */
#define @PREFIX_UPPER@_LABELS {@LABELS@}

/* What a call computes in. It needs no preparation, and nothing stays in it. */
union @PREFIX@_word {
    uint32_t lanes;
    int32_t sum;
    @NUMBER@ value;
};
typedef struct {
    union @PREFIX@_word words[@PREFIX_UPPER@_RAM_BYTES / 4];
} @PREFIX@_memory;

/* Writes @PREFIX_UPPER@_CLASSES logits of @PREFIX_UPPER@_INPUTS bytes, @BYTES@; the class with the largest comes back.
@INTEGERS@
 * One of these whole numbers is @UNIT@ of the network's own logits.
@END@
 * `memory` may be anywhere; calls at the same time need one each. */
int @PREFIX@_classify_in(@PREFIX@_memory *memory, const uint8_t *input, @NUMBER@ *logits);
@FLOATS@

/* The same for floats, @FLOATING@. */
int @PREFIX@_run_in(@PREFIX@_memory *memory, const float *input, float *logits);
@END@

/* The same in static memory: one call at a time. */
#ifndef @PREFIX_UPPER@_CALLERS_MEMORY
int @PREFIX@_classify(const uint8_t *input, @NUMBER@ *logits);
@FLOATS@
int @PREFIX@_run(const float *input, float *logits);
@END@
#endif

#ifdef __cplusplus
}
#endif

#endif
