/* 3x3 convolutions of sparse inputs: a spike that was not fired costs nothing.
 *
 * Inputs x [N, H, W, C] and outputs, or their gradient, [N, H, W, K] lie channels last; stride 1, zero padding 1. Weights are
 * [K, C, 3, 3] with any strides. What is not zero in x is listed once, as (where, value); the sums then run over the lists,
 * 64 outputs at a time: a block of outputs is as many vector registers as keep a processor's multipliers busy.
 *
 * Every sum has a fixed order whatever the number of threads, but for the gradient of weights: where blocks of outputs cannot be
 * shared out evenly to threads, samples are parted too. Compile with contraction of a * b + c.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#define IN 32   /* inputs listed together; three columns of them have a byte for where */
#define OUT 64  /* outputs summed together */
#define LANES 8 /* of a vector */
#define VECTORS (OUT / LANES)
#define RING 5         /* columns of weights: 0, 1, 2, 0, 1, so that any rotation of the three is in one piece */
#define FORWARD 64     /* places worked on together, at least; of the forward pass, whose sums lie beside its weights in cache, */
#define BACKWARD 64    /* and of the gradient of weights */
#define ALIGNMENT 64

typedef float vec __attribute__((vector_size(4 * LANES), may_alias));

typedef struct {
    int64_t N, H, W, C, K; /* samples, height, width, inputs, outputs */
} Shape;

typedef struct {
    int64_t k, c, row, column; /* strides of the weights, or of their gradient, in numbers */
} Strides;

static int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t common(int64_t a, int64_t b) { return b ? common(b, a % b) : a; } /* the greatest common divisor */
static int64_t blocks(int64_t count, int64_t size) { return (count + size - 1) / size; }

/* Rows of an image of W columns and H rows that hold at least `places`, or all. */
static int64_t rows_of(int64_t places, int64_t W, int64_t H) { return at_most(blocks(places, W), H); }

static void *room(int64_t size_bytes) {
    return aligned_alloc(ALIGNMENT, (size_t)(blocks(size_bytes + 1, ALIGNMENT) * ALIGNMENT));
}

/* One bit for each of up to 32 numbers that is not zero. */
static uint32_t not_zero(const float *x, int64_t count) {
    uint32_t mask = 0;
#ifdef __AVX2__
    if (count == IN) {
        for (int part = 0; part < IN / 8; part++)
            mask |= (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + 8 * part), _mm256_setzero_ps(), _CMP_NEQ_UQ))
                    << (8 * part);
        return mask;
    }
#endif
    for (int64_t i = 0; i < count; i++) mask |= (uint32_t)(x[i] != 0.0f) << i;
    return mask;
}

/* sums[64] += value * vectors[where][64], one after the other. The pointer goes through `asm` so that the compiler adds to it
 * once an entry: with base and index in each of the eight operands, this loop takes 1.7 times as long (GCC 12, Zen 3). */
#define ADD_ENTRIES(type, name)                                                                                              \
    static inline void name(const type *restrict where, const float *restrict value, int64_t count,                          \
                            const float *restrict vectors, vec *restrict sums) {                                             \
        vec s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3], s4 = sums[4], s5 = sums[5], s6 = sums[6], s7 = sums[7];  \
        for (int64_t i = 0; i < count; i++) {                                                                                \
            const float *from = vectors + (uint64_t)where[i] * OUT;                                                          \
            __asm__("" : "+r"(from));                                                                                        \
            const vec *v = (const vec *)from;                                                                                \
            const float one = value[i];                                                                                      \
            const vec all = {one, one, one, one, one, one, one, one};                                                        \
            s0 += all * v[0]; s1 += all * v[1]; s2 += all * v[2]; s3 += all * v[3];                                          \
            s4 += all * v[4]; s5 += all * v[5]; s6 += all * v[6]; s7 += all * v[7];                                          \
        }                                                                                                                    \
        sums[0] = s0; sums[1] = s1; sums[2] = s2; sums[3] = s3; sums[4] = s4; sums[5] = s5; sums[6] = s6; sums[7] = s7;      \
    }
ADD_ENTRIES(uint8_t, add_weights)
ADD_ENTRIES(uint16_t, add_gradients)

/* List one row of `count` inputs from x [W, C]. Column w's entries are start[w] to start[w + 1]; w % 3 is part of each, so
 * that the entries of three neighbouring columns, which one output needs, are one list whatever the first of them is. */
static void list_row(const float *x, int64_t W, int64_t C, int64_t count, uint8_t *where, float *value, int32_t *start) {
    int32_t entries = 0;
    for (int64_t w = 0; w < W; w++, x += C) {
        start[w] = entries;
        for (uint32_t mask = not_zero(x, count); mask; mask &= mask - 1) {
            const int i = __builtin_ctz(mask);
            where[entries] = (uint8_t)(w % 3 * IN + i);
            value[entries++] = x[i];
        }
    }
    start[W] = entries;
}

/* Weights as [block of outputs][row][block of inputs][RING][IN][OUT], zero where there are none. */
static float *arranged(const Shape *shape, const float *weight, const Strides *strides, int64_t threads) {
    const int64_t ins = blocks(shape->C, IN), outs = blocks(shape->K, OUT), slices = outs * 3 * ins;
    float *to = room(slices * RING * IN * OUT * (int64_t)sizeof(float));
    if (!to) return NULL;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t slice = 0; slice < slices; slice++) {
        const int64_t k0 = slice / (3 * ins) * OUT, row = slice / ins % 3, c0 = slice % ins * IN;
        float *s = to + slice * RING * IN * OUT;
        for (int64_t place = 0; place < 3 * IN; place++) {
            const int64_t c = c0 + place % IN;
            const float *from = weight + c * strides->c + row * strides->row + place / IN * strides->column;
            for (int64_t k = k0; k < k0 + OUT; k++)
                s[place * OUT + k - k0] = c < shape->C && k < shape->K ? from[k * strides->k] : 0.0f;
        }
        memcpy(s + 3 * IN * OUT, s, (RING - 3) * IN * OUT * sizeof(float));
    }
    return to;
}

/* out = the convolution of x with weight. Returns 0, or 1 if memory ran out. */
int sparse_forward(const Shape *shape, const float *x, const float *weight, const Strides *strides, float *out,
                   int64_t threads) {
    const int64_t N = shape->N, H = shape->H, W = shape->W, C = shape->C, K = shape->K;
    const int64_t ins = blocks(C, IN), outs = blocks(K, OUT), rows = rows_of(FORWARD, W, H), tiles = blocks(H, rows);
    const int64_t listed = (rows + 2) * W * IN, starts = (rows + 2) * (W + 1), places = outs * rows * W;
    uint8_t *wheres = room(threads * listed);
    float *values = room(threads * listed * (int64_t)sizeof(float));
    int32_t *all_starts = room(threads * starts * (int64_t)sizeof(int32_t));
    float *all_sums = room(threads * places * OUT * (int64_t)sizeof(float));
    float *weights = arranged(shape, weight, strides, threads);
    const int failed = !wheres || !values || !all_starts || !all_sums || !weights;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < (failed ? 0 : threads); index++) {
        uint8_t *where = wheres + index * listed;
        float *value = values + index * listed, *sums = all_sums + index * places * OUT;
        int32_t *start = all_starts + index * starts;
        for (int64_t tile = N * tiles * index / threads; tile < N * tiles * (index + 1) / threads; tile++) {
            const int64_t n = tile / tiles, top = tile % tiles * rows, bottom = at_most(top + rows, H);
            memset(sums, 0, (size_t)(places * OUT) * sizeof(float));
            for (int64_t in = 0; in < ins; in++) {
                for (int64_t h = top - 1; h <= bottom; h++) {
                    const int64_t r = h - top + 1;
                    if (h >= 0 && h < H)
                        list_row(x + (n * H + h) * W * C + in * IN, W, C, at_most(C - in * IN, IN), where + r * W * IN,
                                 value + r * W * IN, start + r * (W + 1));
                }
                for (int64_t pass = 0; pass < outs * 3 * 3; pass++) {
                    const int64_t block = pass / 9, row = pass / 3 % 3, first = pass % 3;
                    /* Column first + 1 of the outputs sees inputs first, first + 1, first + 2 (mod 3) by weights 0, 1, 2. */
                    const float *ring = weights + (((block * 3 + row) * ins + in) * RING + (4 - first) % 3) * IN * OUT;
                    for (int64_t h = top; h < bottom; h++) {
                        const int64_t r = h + row - top;
                        if (h + row - 1 < 0 || h + row - 1 >= H) continue;
                        const int32_t *s = start + r * (W + 1);
                        for (int64_t w = first; w < W; w += 3) {
                            const int64_t from = s[w ? w - 1 : 0], to = s[at_most(w + 2, W)];
                            add_weights(where + r * W * IN + from, value + r * W * IN + from, to - from, ring,
                                        (vec *)(sums + ((block * rows + h - top) * W + w) * OUT));
                        }
                    }
                }
            }
            for (int64_t place = 0; place < (bottom - top) * W; place++)
                for (int64_t block = 0; block < outs; block++)
                    memcpy(out + ((n * H + top) * W + place) * K + block * OUT, sums + (block * rows * W + place) * OUT,
                           (size_t)at_most(K - block * OUT, OUT) * sizeof(float));
        }
    }
    free(wheres); free(values); free(all_starts); free(all_sums); free(weights);
    return failed;
}

/* List the inputs of rows `top` to `bottom` of sample n by channel: channel c's entries are c * room and on, counts[c] of them.
 * Where an entry is counts in rows of W + 2 columns, as its gradients lie. */
static void list_channels(const Shape *shape, const float *x, int64_t n, int64_t top, int64_t bottom, int64_t room,
                          uint16_t *where, float *value, int32_t *counts) {
    const int64_t H = shape->H, W = shape->W, C = shape->C;
    memset(counts, 0, (size_t)C * sizeof(int32_t));
    for (int64_t place = 0; place < (bottom - top) * W; place++) {
        const float *at = x + ((n * H + top) * W + place) * C;
        const uint16_t here = (uint16_t)(place / W * (W + 2) + place % W);
        for (int64_t c0 = 0; c0 < C; c0 += IN) {
            for (uint32_t mask = not_zero(at + c0, at_most(C - c0, IN)); mask; mask &= mask - 1) {
                const int64_t c = c0 + __builtin_ctz(mask), entry = c * room + counts[c]++;
                where[entry] = here;
                value[entry] = at[c];
            }
        }
    }
}

/* gradient = dL/dweight of the convolution, from x and `outward`, the gradient of its output. Returns as above. */
int sparse_weight_gradient(const Shape *shape, const float *x, const float *outward, float *gradient, const Strides *strides,
                           int64_t threads) {
    const int64_t N = shape->N, H = shape->H, W = shape->W, C = shape->C, K = shape->K;
    const int64_t outs = blocks(K, OUT), parts = threads / common(threads, outs);
    const int64_t rows = rows_of(BACKWARD, W, H), tiles = blocks(H, rows), places = rows * W;
    const int64_t padded = (rows + 2) * (W + 2) * OUT, sums = 9 * C * OUT;
    uint16_t *wheres = room(threads * C * places * (int64_t)sizeof(uint16_t));
    float *values = room(threads * C * places * (int64_t)sizeof(float));
    int32_t *all_counts = room(threads * C * (int64_t)sizeof(int32_t));
    float *around = room(threads * padded * (int64_t)sizeof(float));
    float *partial = room(parts * outs * sums * (int64_t)sizeof(float));
    const int failed = !wheres || !values || !all_counts || !around || !partial;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < (failed ? 0 : threads); index++) {
        uint16_t *where = wheres + index * C * places;
        float *value = values + index * C * places, *near = around + index * padded;
        int32_t *counts = all_counts + index * C;
        for (int64_t item = index; item < parts * outs; item += threads) {
            const int64_t block = item % outs, part = item / outs, width = at_most(K - block * OUT, OUT);
            float *sum = partial + item * sums;
            memset(sum, 0, (size_t)sums * sizeof(float));
            memset(near, 0, (size_t)padded * sizeof(float)); /* the columns left and right of the image stay so */
            for (int64_t tile = N * tiles * part / parts; tile < N * tiles * (part + 1) / parts; tile++) {
                const int64_t n = tile / tiles, top = tile % tiles * rows, bottom = at_most(top + rows, H);
                list_channels(shape, x, n, top, bottom, places, where, value, counts);
                for (int64_t h = top - 1; h <= bottom; h++) {
                    float *to = near + ((h - top + 1) * (W + 2) + 1) * OUT;
                    const float *from = outward + (n * H + h) * W * K + block * OUT;
                    for (int64_t w = 0; w < W; w++) {
                        if (h < 0 || h >= H) memset(to + w * OUT, 0, OUT * sizeof(float));
                        else memcpy(to + w * OUT, from + w * K, (size_t)width * sizeof(float));
                    }
                }
                for (int64_t tap = 0; tap < 9; tap++) {
                    const float *window = near + ((2 - tap / 3) * (W + 2) + 2 - tap % 3) * OUT;
                    for (int64_t c = 0; c < C; c++) {
                        vec here[VECTORS] = {{0}}, *all = (vec *)(sum + (tap * C + c) * OUT);
                        add_gradients(where + c * places, value + c * places, counts[c], window, here);
                        for (int v = 0; v < VECTORS; v++) all[v] += here[v];
                    }
                }
            }
        }
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t k = 0; k < (failed ? 0 : K); k++)
        for (int64_t i = 0; i < 9 * C; i++) {
            const int64_t tap = i / C, c = i % C;
            float total = 0;
            for (int64_t part = 0; part < parts; part++) total += partial[(part * outs + k / OUT) * sums + i * OUT + k % OUT];
            gradient[k * strides->k + c * strides->c + tap / 3 * strides->row + tap % 3 * strides->column] = total;
        }
    free(wheres); free(values); free(all_counts); free(around); free(partial);
    return failed;
}
