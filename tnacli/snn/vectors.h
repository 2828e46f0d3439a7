/* Vectors of numbers as long as the processor's, in the words that GCC and Clang have for them, and bf16, the upper half of an
 * fp32 number. */
#ifndef TNACLI_VECTORS_H
#define TNACLI_VECTORS_H

#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); /* all bits of a lane, or none */
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

#define INLINE static inline __attribute__((always_inline))

/* Some of the lanes: where a is b or more; where x has any of these bits. And x there or elsewhere, 0 in the other lanes. */
#ifdef __AVX512F__
typedef __mmask16 lanes;

INLINE lanes at_least_in(vec a, vec b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ); }
INLINE lanes with_bits(mask x, int32_t bits) { return _mm512_test_epi32_mask((__m512i)x, _mm512_set1_epi32(bits)); }
INLINE vec only(lanes where, vec x) { return (vec)_mm512_maskz_mov_ps(where, (__m512)x); }
INLINE vec except(lanes where, vec x) { return (vec)_mm512_maskz_mov_ps((__mmask16)~where, (__m512)x); }
INLINE mask with(mask x, lanes where, mask bits) {
    return (mask)_mm512_mask_or_epi32((__m512i)x, where, (__m512i)x, (__m512i)bits);
}
#else
typedef mask lanes;

INLINE lanes at_least_in(vec a, vec b) { return a >= b; }
INLINE lanes with_bits(mask x, int32_t bits) { return (x & bits) != 0; }
INLINE vec only(lanes where, vec x) { return (vec)(where & (mask)x); }
INLINE vec except(lanes where, vec x) { return (vec)(~where & (mask)x); }
INLINE mask with(mask x, lanes where, mask bits) { return x | (where & bits); }
#endif

INLINE vec widened(const uint16_t *from) { return (vec)(__builtin_convertvector(*(const halves *)from, words) << 16); }

/* Rounds to nearest, ties to even; what is not a number stays so. */
INLINE halves narrowed(vec x) {
#if defined(__AVX512BF16__)
    return (halves)_mm512_cvtneps_pbh((__m512)x); /* also makes numbers below 2^-126 zero */
#else
    const words bits = (words)x, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const words strange = (words)((bits & 0x7fffffff) > 0x7f800000);
    return __builtin_convertvector((rounded & ~strange) | (strange & 0x7fc0), halves);
#endif
}

/* The `n` numbers, fp32 or with `half` bf16, from number `at` on; 0 in the other lanes. */
INLINE vec load(int64_t half, int64_t n, const void *from, int64_t at) {
    if (n == LANES) return half ? widened((const uint16_t *)from + at) : *(const vec *)((const float *)from + at);
    uint16_t some_halves[LANES] = {0};
    vec some = {0};
    memcpy(half ? (void *)some_halves : &some, (const char *)from + at * (half ? 2 : 4), (size_t)(n * (half ? 2 : 4)));
    return half ? widened(some_halves) : some;
}

INLINE void save(int64_t half, int64_t n, vec x, void *to, int64_t at) {
    const halves narrow = narrowed(x);
    if (n == LANES && half) *(halves *)((uint16_t *)to + at) = narrow;
    else if (n == LANES) *(vec *)((float *)to + at) = x;
    else memcpy((char *)to + at * (half ? 2 : 4), half ? (const void *)&narrow : &x, (size_t)(n * (half ? 2 : 4)));
}

/* Bytes as whole numbers and back; GCC 12 takes __builtin_convertvector lane by lane. */
INLINE mask of_bytes(bytes from) {
#ifdef __AVX512F__
    return (mask)_mm512_cvtepu8_epi32((__m128i)from);
#elif defined(__AVX2__)
    return (mask)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)&from));
#else
    return __builtin_convertvector(from, mask);
#endif
}

INLINE bytes to_bytes(mask from) {
#ifdef __AVX512F__
    return (bytes)_mm512_cvtepi32_epi8((__m512i)from);
#elif defined(__AVX2__)
    const __m128i pairs = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)from), _mm256_extracti128_si256((__m256i)from, 1));
    bytes to;
    _mm_storel_epi64((__m128i *)&to, _mm_packus_epi16(pairs, pairs));
    return to;
#else
    return __builtin_convertvector(from, bytes);
#endif
}

/* Runs `call` for each vector of channels, the `n` from c0 on: compiled for full ones, of fp32 and of bf16 (`is_half`), and for
 * what is left. */
#define BY_VECTORS(C, half, call) \
    for (int64_t c0 = 0; c0 < (C); c0 += LANES) { \
        if ((C) - c0 < LANES) { \
            const int64_t n = (C) - c0, is_half = (half); \
            call; \
        } else if (half) { \
            const int64_t n = LANES, is_half = 1; \
            call; \
        } else { \
            const int64_t n = LANES, is_half = 0; \
            call; \
        } \
    }

#endif
