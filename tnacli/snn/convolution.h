/* What the kernels of 3x3 convolutions have in common. */
#ifndef TNACLI_CONVOLUTION_H
#define TNACLI_CONVOLUTION_H

#include <stdint.h>
#include <stdlib.h>

#include "lists.h"

#if defined(__AVX512F__) || defined(__aarch64__)
#define V 2 /* vectors of outputs, nine of each of which fit the registers */
#else
#define V 1
#endif
#define OUT (V * LANES)
#define ALIGNMENT 64

typedef struct {
    int64_t N, H, W, C, K; /* samples, height, width, inputs, outputs */
} Shape;

typedef struct {
    int64_t k, c, row, column; /* strides of the weights, or of their gradient, in numbers */
} Strides;

static inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t at_least(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t blocks(int64_t count, int64_t size) { return (count + size - 1) / size; }

static inline void *room(int64_t size_bytes) {
    return aligned_alloc(ALIGNMENT, (size_t)(blocks(size_bytes + 1, ALIGNMENT) * ALIGNMENT));
}

/* Weights as [block of outputs][block of inputs][IN / pair][9][OUT], zero where there are none. Of the nine, number 3 * r + q is for
 * the output r - 1 rows and q - 1 columns from the input. With a `pair` of 2, one number has those of two inputs, which are exact in
 * bf16, the first one's in the lower half. */
static inline float *arranged(const Shape *shape, const float *weight, const Strides *strides, const int64_t pair,
                              int64_t threads) {
    const int64_t ins = blocks(shape->C, IN), outs = blocks(shape->K, OUT), entries = IN / pair * ins;
    float *to = room(outs * entries * 9 * OUT * (int64_t)sizeof(float));
    if (!to) return NULL;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t place = 0; place < outs * entries * 9; place++) {
        const int64_t k0 = place / (9 * entries) * OUT, c = place / 9 % entries * pair, tap = 8 - place % 9;
        const int64_t count = at_most(shape->K - k0, OUT), inputs = at_most(shape->C - c, pair);
        const float *from = weight + c * strides->c + tap / 3 * strides->row + tap % 3 * strides->column + k0 * strides->k;
        float two[2][OUT] = {{0}};
        for (int64_t i = 0; i < inputs; i++, from += strides->c)
            for (int64_t k = 0; k < count; k++) two[i][k] = from[k * strides->k];
        for (int v = 0; v < V; v++) {
            const vec first = ((const vec *)two[0])[v], second = ((const vec *)two[1])[v];
            ((vec *)(to + place * OUT))[v] = pair == 1 ? first : (vec)((words)first >> 16 | (words)second);
        }
    }
    return to;
}

/* A group of places whose gradients are worked on together: `rows` rows of `images` images, from row `top` of image n. The
 * gradients of their outputs lie with a border around each image, W + 2 places a row. */
typedef struct {
    int64_t n, images, top, rows;
} Group;

static inline Group group_of(const Shape *shape, int64_t images, int64_t rows, int64_t index) {
    const int64_t tiles = blocks(shape->H, rows), n = index / tiles * images, top = index % tiles * rows;
    return (Group){n, at_most(images, shape->N - n), top, at_most(rows, shape->H - top)};
}

#endif
