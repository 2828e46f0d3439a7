/* What a packed network computes, for any processor: `variant.h` compiled once for each kind of vectors, and the choice among them.
 *
 * Nothing here needs a library: threads are the caller's, each of whom computes a part. Every function gives the same bits in every
 * variant, on every processor: integers are exact, and floats are added in the order that docs/packed-format.md states.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lif.h"

#if defined(_WIN32)
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED __attribute__((visibility("default")))
#endif

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

#define PLACES 64 /* places of a job, a byte of a row each */
#define JOBS 8    /* jobs worked on at once, a bit of these bytes each */
#define INPUTS 384 /* inputs worked on at once, at most: so many rows of PLACES stay in the nearest cache */
#define ZEROS ((INPUTS + 1) * PLACES) /* where a row of zeros lies after them, beyond what copies run over */
#define WIDTH 9        /* bits of a sum over INPUTS */
#define WIDTH_DENSE 11 /* the same of all inputs, and up to twice as many again */

typedef struct {
    int64_t T, N, H, W, C;             /* timesteps, images, height and width with the zeros around, channels */
    int64_t out, kernel, stride, outH, outW;
    int64_t counts_to, divisor;        /* counts are 0 to the first, sums are divided by the second, a power of two */
    Neurons neurons;
} Layer;

/* Which weights of a layer meet an output, in blocks of up to INPUTS inputs, `each`: for each block and output two lists of places in the block,
 * in bytes of rows. Of few zeros, fewer inputs are added that way: sum = (all inputs) - (those of weight 0) - 2 * (those of -1). */
typedef struct {
    int64_t blocks, each, out;
    const uint16_t *entries; /* the lists after one another */
    const uint32_t *starts;  /* [blocks][out][2] and the end: where each list begins; its length is a multiple of four */
    const uint16_t *order;   /* [blocks][out]: whose lists they are */
    int64_t dense;           /* 0: lists of +1 and -1; 1: of 0 and -1, after the sum of all inputs */
    int64_t planes;          /* bits of the largest sum, before what is too much is taken away */
} Lists;

/* How the places of a layer's outputs are cut into blocks of up to PLACES that follow one another: whole images, rows of one, or a
 * part of a row. `window` is how many counts of a channel lie between the first and the last that a block takes. */
typedef struct { int64_t count, places, images, rows, columns, row_blocks, column_blocks, window; } Blocks;

/* A block of places at one timestep: where it begins among the places, how many there are, and where among a channel's counts. */
typedef struct { int64_t t, place, count, source; } Job;

/* What a thread works with: some jobs, and all outputs from `from` to `to`. */
typedef struct {
    Blocks blocks;
    Job job[JOBS];
    int64_t jobs, from, to;
    uint8_t *window; /* the bits of one channel, and room for what would be read beyond the last counts */
    uint8_t *laid;   /* rows of a block of inputs, and a row of zeros */
    uint8_t *sums;   /* [output][plane], a row each */
    int32_t *beyond; /* [output] */
} Work;

static void part_of(int64_t count, int64_t index, int64_t parts, int64_t *from, int64_t *to) {
    *from = count * index / parts;
    *to = count * (index + 1) / parts;
}

#include "entries.h"

/* Where each output takes one place, places have no neighbours and can all lie in a row. */
static Layer in_a_row(const Layer *l) {
    Layer flat = *l;
    if (l->kernel == 1 && l->stride == 1) {
        flat.W = flat.outW = l->N * l->H * l->W;
        flat.N = flat.H = flat.outH = 1;
    }
    return flat;
}

static Blocks blocks_of(const Layer *l) {
    Blocks b;
    b.column_blocks = (l->outW + PLACES - 1) / PLACES;
    b.columns = (l->outW + b.column_blocks - 1) / b.column_blocks;
    b.rows = b.column_blocks > 1 ? 1 : least(l->outH, PLACES / l->outW);
    b.row_blocks = (l->outH + b.rows - 1) / b.rows;
    b.images = b.row_blocks > 1 || b.column_blocks > 1 ? 1 : least(l->N, PLACES / (l->outH * l->outW));
    b.count = (l->N + b.images - 1) / b.images * b.row_blocks * b.column_blocks;
    b.places = b.images * b.rows * b.columns;
    b.window = ((b.images - 1) * l->H + (b.rows - 1) * l->stride + l->kernel - 1) * l->W + (b.columns - 1) * l->stride + l->kernel;
    return b;
}

/* Job `number`: the timesteps of a block come one after the other. */
static Job job_of(const Layer *l, const Blocks *b, int64_t number) {
    const int64_t block = number / l->T, n = block / (b->row_blocks * b->column_blocks) * b->images;
    const int64_t h = block / b->column_blocks % b->row_blocks * b->rows, w = block % b->column_blocks * b->columns;
    const int64_t images = least(b->images, l->N - n), rows = least(b->rows, l->outH - h), columns = least(b->columns, l->outW - w);
    return (Job){number % l->T, (n * l->outH + h) * l->outW + w, images * rows * columns, (n * l->H + h * l->stride) * l->W + w * l->stride};
}

#define UNROLLED _Pragma("GCC unroll 16") /* so that arrays can be registers */

#define JOIN(name, variant) name##_##variant
#define JOINED(name, variant) JOIN(name, variant)
#define NAME(name) JOINED(name, VARIANT) /* the name of this variant's function */

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#define CHOICE 1
#define VARIANT avx512
#define LANES 64
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))), apply_to = function)
#include "variant.h"
#pragma clang attribute pop
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")
#include "variant.h"
#pragma GCC pop_options
#endif
#undef VARIANT
#undef LANES
#define VARIANT avx2
#define LANES 32
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#include "variant.h"
#pragma clang attribute pop
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#include "variant.h"
#pragma GCC pop_options
#endif
#undef VARIANT
#undef LANES
#else
#define CHOICE 0
#endif
#define VARIANT baseline /* SSE2 on x86-64, NEON on arm64, whatever the compiler makes of it elsewhere */
#define LANES 16
#include "variant.h"

typedef struct {
    const char *name;
    int64_t (*layer)(const Layer *, const Lists *, const uint8_t *, const float *, const float *, float *, uint8_t *, int64_t, int64_t);
    void (*lif)(const float *, int64_t, int64_t, int64_t, int64_t, const Neurons *, uint8_t *, int64_t, int64_t);
    void (*pool)(const uint8_t *, int64_t, int64_t, int64_t, int64_t, uint8_t *, int64_t, int64_t);
    int64_t (*ordered)(const Layer *, const float *, const int64_t *, const float *, float *, const int64_t *, int64_t, int64_t);
} Variant;

#define OF(variant) {#variant, JOIN(layer, variant), JOIN(lif, variant), JOIN(pool, variant), JOIN(ordered, variant)}
static const Variant variants[] = {
#if CHOICE
    OF(avx512),
    OF(avx2),
#endif
    OF(baseline),
};
enum { COUNT = sizeof variants / sizeof *variants };

static int runs_here(int64_t number) {
#if CHOICE
    __builtin_cpu_init();
    if (number == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq");
    if (number == 1) return __builtin_cpu_supports("avx2");
#endif
    return number < COUNT;
}

static const Variant *chosen;

/* The name of variant `number`, fastest first; NULL if there is none, or this processor has not what it needs. */
EXPORTED const char *variant_name(int64_t number) {
    return number >= 0 && number < COUNT && runs_here(number) ? variants[number].name : NULL;
}

/* Compute with variant `number` from now on, which has a name. */
EXPORTED void use_variant(int64_t number) { chosen = &variants[number]; }

/* Spikes uint8 [out][T][N][outH][outW] of the neurons of a layer, driven by sum * scale + shift (both [out]), or without `spikes`
 * these currents, fp32, themselves; of counts uint8 [C][T][N][H][W]. Each sum is divided by `divisor`. Part `index` of `parts`;
 * returns 1 if there is no memory. */
EXPORTED int64_t layer(const Layer *l, const Lists *lists, const uint8_t *counts, const float *scale, const float *shift,
                       float *currents, uint8_t *spikes, int64_t index, int64_t parts) {
    return chosen->layer(l, lists, counts, scale, shift, currents, spikes, index, parts);
}

/* Spikes [out][T][count] of LIF neurons (Eq. 1) with currents [out][T][count], or [out][1][count] if they are `repeated`. */
EXPORTED void lif(const float *current, int64_t repeated, int64_t out, int64_t T, int64_t count, const Neurons *neurons,
                  uint8_t *spikes, int64_t index, int64_t parts) {
    chosen->lif(current, repeated, out, T, count, neurons, spikes, index, parts);
}

/* How many of each size x size spikes [planes][H][W] there are: counts [planes][H / size][W / size]. */
EXPORTED void pool(const uint8_t *spikes, int64_t planes, int64_t H, int64_t W, int64_t size, uint8_t *counts, int64_t index,
                   int64_t parts) {
    chosen->pool(spikes, planes, H, W, size, counts, index, parts);
}

/* Sums of weights [out][C][kernel][kernel] times x, fp32, each product and each sum rounded, added in the order of the weights. x is
 * [N][C][H][W] with distances `from` between images and channels, and the sums [N][out][outH][outW] with distances `to`, in numbers.
 * Part `index` of `parts`; returns 1 if there is no memory. */
EXPORTED int64_t ordered(const Layer *l, const float *x, const int64_t *from, const float *weights, float *sums, const int64_t *to,
                         int64_t index, int64_t parts) {
    return chosen->ordered(l, x, from, weights, sums, to, index, parts);
}
