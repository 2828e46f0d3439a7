/* bf16, the upper half of an fp32 number: widened and rounded row by row. */
#ifndef TNACLI_HALF_H
#define TNACLI_HALF_H

#include <stdint.h>

typedef uint32_t __attribute__((may_alias)) bits32;

static inline void widen(int64_t C, const uint16_t *restrict from, bits32 *restrict to) {
    for (int64_t c = 0; c < C; c++) to[c] = (uint32_t)from[c] << 16;
}

/* Rounds to nearest, ties to even; what is not a number stays so. */
static inline void narrow(int64_t C, const bits32 *restrict from, uint16_t *restrict to) {
    for (int64_t c = 0; c < C; c++) {
        const uint32_t rounded = (from[c] + 0x7fff + (from[c] >> 16 & 1)) >> 16;
        to[c] = (uint16_t)((from[c] & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
    }
}

#endif
