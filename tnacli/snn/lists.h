/* Lists of what is not zero among neighbouring inputs, without a branch where the processor allows it: whether a neuron spiked
 * cannot be foreseen. Inputs are fp32, or with HALF defined bf16. The values listed are fp32, or pairs of bf16 where the processor
 * multiplies those and adds both products up at once; there, numbers below 2^-126 count as zero. */
#ifndef TNACLI_LISTS_H
#define TNACLI_LISTS_H

#include <stdint.h>
#include <string.h>

#include "vectors.h"

#define IN 32 /* inputs listed together */

#ifdef HALF
typedef uint16_t number;

static inline float one_of(const number *x) {
    const uint32_t bits = (uint32_t)*x << 16;
    float wide;
    memcpy(&wide, &bits, sizeof(wide));
    return wide;
}

static inline vec vector_of(const number *x) { return widened(x); }

/* As `narrowed` rounds. */
static inline void put(float x, number *to) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    *to = x == x ? (number)((bits + 0x7fff + (bits >> 16 & 1)) >> 16) : 0x7fc0;
}
#else
typedef float number;

static inline float one_of(const number *x) { return *x; }

static inline vec vector_of(const number *x) { return *(const vec *)x; }

static inline void put(float x, number *to) { *to = x; }
#endif

#if defined(HALF) && defined(__AVX512BF16__)
#define PAIR 2          /* inputs an entry, of which one at least is not zero: spikes are often side by side */
typedef uint32_t entry; /* two bf16 numbers, the first one the lower half */

INLINE vec add_product(vec sum, entry both, vec by) {
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)by, (__m512bh)_mm512_set1_epi32((int)both));
}
#else
#define PAIR 1
typedef float entry;

INLINE vec add_product(vec sum, entry one, vec by) { return sum + one * by; }
#endif

#if defined(__AVX2__) && !defined(__AVX512F__)
static uint64_t packed[256]; /* of a mask of eight bits: which are set, a byte each */

__attribute__((constructor)) static void fill_packed(void) {
    for (int mask = 0; mask < 256; mask++)
        for (int i = 0, at = 0; i < 8; i++)
            if (mask >> i & 1) packed[mask] |= (uint64_t)i << 8 * at++;
}
#endif

/* List the entries of up to IN neighbouring inputs by their number; how many there are is returned. Up to a vector more is written
 * after them. */
static inline int64_t list(const number *x, int64_t count, uint8_t *where, entry *value) {
#if PAIR == 2
    const __m512i all = _mm512_maskz_loadu_epi16(count < IN ? (1u << count) - 1 : ~0u, x);
    const __mmask16 mask = _mm512_test_epi32_mask(all, all);
    const __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm512_storeu_si512(value, _mm512_maskz_compress_epi32(mask, all));
    _mm_storeu_si128((__m128i *)where, _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(mask, places)));
    return __builtin_popcount(mask);
#else
    int64_t entries = 0, i = 0;
#ifdef __AVX512F__
    for (; i + LANES <= count; i += LANES) {
        const __m512 all = (__m512)vector_of(x + i);
        const __mmask16 mask = _mm512_cmp_ps_mask(all, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        const __m512i places = _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                                _mm512_set1_epi32((int)i));
        _mm512_storeu_ps(value + entries, _mm512_maskz_compress_ps(mask, all));
        _mm_storeu_si128((__m128i *)(where + entries), _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(mask, places)));
        entries += __builtin_popcount(mask);
    }
#elif defined(__AVX2__)
    for (; i + LANES <= count; i += LANES) {
        const __m256 all = (__m256)vector_of(x + i);
        const int mask = _mm256_movemask_ps(_mm256_cmp_ps(all, _mm256_setzero_ps(), _CMP_NEQ_UQ));
        const uint64_t set = packed[mask], places = set + 0x0101010101010101u * (uint64_t)i;
        const __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)set));
        _mm256_storeu_ps(value + entries, _mm256_permutevar8x32_ps(all, order));
        memcpy(where + entries, &places, sizeof(places));
        entries += __builtin_popcount((unsigned)mask);
    }
#endif
    for (; i < count; i++) { /* without a branch: whether an input spiked cannot be foreseen */
        where[entries] = (uint8_t)i;
        value[entries] = one_of(x + i);
        entries += value[entries] != 0.0f;
    }
    return entries;
#endif
}

#define EIGHT 8 /* places whose inputs are listed together by channel */

typedef uint16_t eight __attribute__((vector_size(2 * EIGHT), aligned(2), may_alias));

static eight chosen[256]; /* of a mask of eight bits: which are set */

__attribute__((constructor)) static void fill_chosen(void) {
    for (int mask = 0; mask < 256; mask++)
        for (uint16_t i = 0, at = 0; i < EIGHT; i++)
            if (mask >> i & 1) chosen[mask][at++] = i;
}

/* Add to a list of places those of the eight from `first` on whose bit is set; how many is returned. All eight are written. */
INLINE int32_t add_places(uint16_t *list, int64_t first, uint32_t mask) {
    *(eight *)list = chosen[mask & 255] + (uint16_t)first;
    return __builtin_popcount(mask & 255);
}

#endif
