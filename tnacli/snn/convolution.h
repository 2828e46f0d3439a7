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

/* Weights as [block of outputs][block of inputs][IN][9][OUT], zero where there are none. Of the nine, number 3 * r + q is for the
 * output r - 1 rows and q - 1 columns from the input. */
static inline float *arranged(const Shape *shape, const float *weight, const Strides *strides, int64_t threads) {
    const int64_t ins = blocks(shape->C, IN), outs = blocks(shape->K, OUT);
    float *to = room(outs * ins * IN * 9 * OUT * (int64_t)sizeof(float));
    if (!to) return NULL;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t place = 0; place < outs * ins * IN * 9; place++) {
        const int64_t k0 = place / (9 * IN * ins) * OUT, c = place / 9 % (IN * ins), tap = 8 - place % 9;
        const float *from = weight + c * strides->c + tap / 3 * strides->row + tap % 3 * strides->column;
        for (int64_t k = k0; k < k0 + OUT; k++)
            to[place * OUT + k - k0] = c < shape->C && k < shape->K ? from[k * strides->k] : 0.0f;
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
