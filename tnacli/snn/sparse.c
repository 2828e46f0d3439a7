/* 3x3 convolutions of sparse inputs: a spike that was not fired costs nothing.
 *
 * Inputs x [N, H, W, C] and outputs, or their gradient, [N, H, W, K] lie channels last; stride 1, zero padding 1. Weights are
 * [K, C, 3, 3] with any strides. What is not zero in x is listed, as (where, value); the sums then run over the lists.
 * Inputs, outputs and their gradients are fp32, or bf16 where HALF is defined; weights, their gradient and all sums are fp32.
 *
 * - Forward, lists are by place: an output adds up the weights of its neighbours' entries, 64 or 32 outputs at a time.
 * - For the gradient of the weights they are by channel: each entry adds the nine gradients around it, one vector of outputs
 *   at a time, to nine sums that stay in registers.
 *
 * Every sum has a fixed order whatever the number of threads, but for the gradient of weights, where samples are parted.
 * Compile with contraction of a * b + c.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "lists.h"

#define RING 5           /* columns of weights: 0, 1, 2, 0, 1, so that any rotation of the three is in one piece */
#define FORWARD 64       /* places worked on together, at least, in the forward pass */
#define NEAR 340         /* places, borders included, whose gradients are worked on together: a vector of each stays in cache */
#define LISTED (1 << 16) /* inputs, zeros included, that have their lists at the same time, for the gradient of the weights */
#define PARTIAL (1 << 24) /* sums, of all threads together, above which threads share out outputs and not samples */
#define ALIGNMENT 64

typedef struct {
    int64_t N, H, W, C, K; /* samples, height, width, inputs, outputs */
} Shape;

typedef struct {
    int64_t k, c, row, column; /* strides of the weights, or of their gradient, in numbers */
} Strides;

static int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t at_least(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t common(int64_t a, int64_t b) { return b ? common(b, a % b) : a; } /* the greatest common divisor */
static int64_t blocks(int64_t count, int64_t size) { return (count + size - 1) / size; }

static void *room(int64_t size_bytes) {
    return aligned_alloc(ALIGNMENT, (size_t)(blocks(size_bytes + 1, ALIGNMENT) * ALIGNMENT));
}

/* sums[V vectors] += value * vectors[where], entry by entry. The pointer goes through `asm` so that the compiler adds to it
 * once an entry: with base and index in each operand, this loop takes 1.7 times as long (GCC 12, Zen 3). */
static inline __attribute__((always_inline)) void add(const uint8_t *restrict where, const float *restrict value, int64_t count,
                                                      const float *restrict vectors, vec *restrict sums, const int V) {
    vec s[V];
    for (int v = 0; v < V; v++) s[v] = sums[v];
    for (int64_t i = 0; i < count; i++) {
        const float *from = vectors + (uint64_t)where[i] * (uint64_t)(V * LANES);
        __asm__("" : "+r"(from));
        const float one = value[i];
        for (int v = 0; v < V; v++) s[v] += one * ((const vec *)from)[v];
    }
    for (int v = 0; v < V; v++) sums[v] = s[v];
}

/* Weights as [block of outputs][row][block of inputs][RING][IN][OUT], zero where there are none. */
static float *arranged(const Shape *shape, int64_t OUT, const float *weight, const Strides *strides, int64_t threads) {
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
        memcpy(s + 3 * IN * OUT, s, (size_t)((RING - 3) * IN * OUT) * sizeof(float));
    }
    return to;
}

static void store(int64_t count, const float *from, number *to) {
#ifdef HALF
    narrow(count, (const bits32 *)from, to);
#else
    memcpy(to, from, (size_t)count * sizeof(float));
#endif
}

/* out = the convolution of x with weight. Returns 0, or 1 if memory ran out. */
int sparse_forward(const Shape *shape, const number *x, const float *weight, const Strides *strides, number *out,
                   int64_t threads) {
    const int64_t N = shape->N, H = shape->H, W = shape->W, C = shape->C, K = shape->K;
    const int64_t OUT = blocks(K, 32) % 2 ? 32 : 64, ins = blocks(C, IN), outs = blocks(K, OUT), padded = outs * OUT;
    const int64_t rows = at_most(blocks(FORWARD, W), H), tiles = blocks(H, rows), direct = padded == K && sizeof(number) == sizeof(float);
    const int64_t listed = (rows + 2) * W * IN + LANES, starts = (rows + 2) * (W + 1), places = direct ? 0 : rows * W;
    uint8_t *wheres = room(threads * listed);
    float *values = room(threads * listed * (int64_t)sizeof(float));
    int32_t *all_starts = room(threads * starts * (int64_t)sizeof(int32_t));
    float *all_sums = room(threads * places * padded * (int64_t)sizeof(float));
    float *weights = arranged(shape, OUT, weight, strides, threads);
    const int failed = !wheres || !values || !all_starts || !all_sums || !weights;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < (failed ? 0 : threads); index++) {
        uint8_t *where = wheres + index * listed;
        float *value = values + index * listed;
        int32_t *start = all_starts + index * starts;
        for (int64_t tile = N * tiles * index / threads; tile < N * tiles * (index + 1) / threads; tile++) {
            const int64_t n = tile / tiles, top = tile % tiles * rows, bottom = at_most(top + rows, H);
            number *to = out + (n * H + top) * W * K;
            float *sums = direct ? (float *)to : all_sums + index * places * padded;
            memset(sums, 0, (size_t)((bottom - top) * W * padded) * sizeof(float));
            for (int64_t in = 0; in < ins; in++) {
                for (int64_t h = at_least(top - 1, 0); h <= at_most(bottom, H - 1); h++) {
                    const int64_t r = h - top + 1;
                    int64_t entries = r * W * IN;
                    for (int64_t w = 0; w < W; w++) {
                        /* w % 3 is part of where, so that the entries of three neighbouring columns, which one output needs,
                         * are one list whatever the first of them is. */
                        start[r * (W + 1) + w] = (int32_t)entries;
                        entries += list(x + ((n * H + h) * W + w) * C + in * IN, at_most(C - in * IN, IN), w % 3 * IN,
                                        where + entries, value + entries);
                    }
                    start[r * (W + 1) + W] = (int32_t)entries;
                }
                for (int64_t pass = 0; pass < outs * 3 * 3; pass++) {
                    const int64_t block = pass / 9, row = pass / 3 % 3, first = pass % 3;
                    /* Column first + 1 of the outputs sees inputs first, first + 1, first + 2 (mod 3) by weights 0, 1, 2. */
                    const float *ring = weights + (((block * 3 + row) * ins + in) * RING + (4 - first) % 3) * IN * OUT;
                    for (int64_t h = at_least(top, 1 - row); h < at_most(bottom, H + 1 - row); h++) {
                        const int32_t *s = start + (h + row - top) * (W + 1);
                        for (int64_t w = first; w < W; w += 3) {
                            const int64_t from = s[w ? w - 1 : 0], count = s[at_most(w + 2, W)] - from;
                            vec *sum = (vec *)(sums + ((h - top) * W + w) * padded + block * OUT);
                            if (OUT == 32) add(where + from, value + from, count, ring, sum, 32 / LANES);
                            else add(where + from, value + from, count, ring, sum, 64 / LANES);
                        }
                    }
                }
            }
            for (int64_t place = 0; place < (direct ? 0 : (bottom - top) * W); place++)
                store(K, sums + place * padded, to + place * K);
        }
    }
    free(wheres); free(values); free(all_starts); free(all_sums); free(weights);
    return failed;
}

/* A group of places that the gradient of the weights works on together: `rows` rows of `images` images, from row `top` of
 * image n. Its gradients lie with a border around each image, P = W + 2 places a row. */
typedef struct {
    int64_t n, images, top, rows;
} Group;

static Group group_of(const Shape *shape, int64_t images, int64_t rows, int64_t index) {
    const int64_t tiles = blocks(shape->H, rows), n = index / tiles * images, top = index % tiles * rows;
    return (Group){n, at_most(images, shape->N - n), top, at_most(rows, shape->H - top)};
}

/* List a group's inputs by channel: channel c's entries are c * room and on, counts[c] of them. Where an entry is counts
 * places, borders included, up to the first of the nine gradients that it meets. */
static void list_channels(const Shape *shape, const number *x, Group group, int64_t room, uint16_t *where, float *value,
                          int32_t *counts) {
    const int64_t H = shape->H, W = shape->W, C = shape->C;
    memset(counts, 0, (size_t)C * sizeof(int32_t));
    for (int64_t line = 0; line < group.images * group.rows; line++) {
        const int64_t image = line / group.rows, row = line % group.rows;
        const number *at = x + ((group.n + image) * H + group.top + row) * W * C;
        for (int64_t w = 0; w < W; w++, at += C) {
            const uint16_t here = (uint16_t)((image * (group.rows + 2) + row) * (W + 2) + w);
            for (int64_t c0 = 0; c0 < C; c0 += IN) {
                for (uint32_t mask = not_zero(at + c0, at_most(C - c0, IN)); mask; mask &= mask - 1) {
                    const int64_t c = c0 + __builtin_ctz(mask), entry = c * room + counts[c]++;
                    where[entry] = here;
                    value[entry] = one_of(at + c);
                }
            }
        }
    }
}

/* near = a vector of outputs, from k on, of a group's gradients, zero beyond the image. */
static void copy_near(const Shape *shape, const number *outward, Group group, int64_t k, float *near) {
    const int64_t H = shape->H, W = shape->W, K = shape->K, count = at_most(K - k, LANES);
    for (int64_t line = 0; line < group.images * (group.rows + 2); line++, near += (W + 2) * LANES) {
        const int64_t h = group.top + line % (group.rows + 2) - 1;
        const number *from = outward + ((group.n + line / (group.rows + 2)) * H + h) * W * K + k;
        if (h < 0 || h >= H || count < LANES) memset(near, 0, (size_t)((W + 2) * LANES) * sizeof(float));
        if (h < 0 || h >= H) continue;
        for (int64_t w = 0; w < W; w++) {
            if (count == LANES) ((vec *)near)[w + 1] = vector_of(from + w * K);
            else
                for (int64_t k = 0; k < count; k++) near[(w + 1) * LANES + k] = one_of(from + w * K + k);
        }
    }
}

/* sums[9 vectors] += the sums over `count` entries of value * the nine vectors around where. */
static void add_nine(const uint16_t *restrict where, const float *restrict value, int64_t count, const float *restrict near,
                     int64_t P, vec *restrict sums) {
    vec s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3], s4 = sums[4], s5 = sums[5], s6 = sums[6], s7 = sums[7],
        s8 = sums[8];
    for (int64_t i = 0; i < count; i++) {
        const float one = value[i];
        const vec *a = (const vec *)(near + (uint64_t)where[i] * LANES), *b = a + P, *c = b + P;
        s8 += one * a[0]; s7 += one * a[1]; s6 += one * a[2];
        s5 += one * b[0]; s4 += one * b[1]; s3 += one * b[2];
        s2 += one * c[0]; s1 += one * c[1]; s0 += one * c[2];
    }
    sums[0] = s0; sums[1] = s1; sums[2] = s2; sums[3] = s3; sums[4] = s4; sums[5] = s5; sums[6] = s6; sums[7] = s7;
    sums[8] = s8;
}

/* gradient = dL/dweight of the convolution, from x and `outward`, the gradient of its output. Returns as above. */
int sparse_weight_gradient(const Shape *shape, const number *x, const number *outward, float *gradient, const Strides *strides,
                           int64_t threads) {
    const int64_t N = shape->N, H = shape->H, W = shape->W, C = shape->C, K = shape->K, outs = blocks(K, LANES);
    const int64_t rows = at_most(at_least(NEAR / (W + 2) - 2, 1), H);
    const int64_t images = rows < H ? 1 : at_most(at_least(NEAR / ((W + 2) * (H + 2)), 1), N);
    const int64_t groups = blocks(N, images) * blocks(H, rows), places = images * rows * W;
    const int64_t together = at_most(at_least(LISTED / (C * places), 1), groups);
    const int64_t padded = images * (rows + 2) * (W + 2) * LANES, sums = 9 * C * LANES;
    const int64_t shares = threads * outs * sums > PARTIAL ? common(threads, outs) : 1, parts = threads / shares;
    uint16_t *wheres = room(threads * together * C * places * (int64_t)sizeof(uint16_t));
    float *values = room(threads * together * C * places * (int64_t)sizeof(float));
    int32_t *all_counts = room(threads * together * C * (int64_t)sizeof(int32_t));
    float *around = room(threads * padded * (int64_t)sizeof(float));
    float *partial = room(parts * outs * sums * (int64_t)sizeof(float));
    const int failed = !wheres || !values || !all_counts || !around || !partial;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < (failed ? 0 : threads); index++) {
        const int64_t share = index % shares, part = index / shares, end = groups * (part + 1) / parts;
        const int64_t from = outs * share / shares, to = outs * (share + 1) / shares;
        float *near = around + index * padded, *own = partial + part * outs * sums;
        memset(own + from * sums, 0, (size_t)((to - from) * sums) * sizeof(float));
        memset(near, 0, (size_t)padded * sizeof(float)); /* the columns left and right of an image stay so */
        for (int64_t start = groups * part / parts; start < end; start += together) {
            const int64_t count = at_most(together, end - start), lists = index * together * C;
            for (int64_t g = 0; g < count; g++)
                list_channels(shape, x, group_of(shape, images, rows, start + g), places, wheres + (lists + g * C) * places,
                              values + (lists + g * C) * places, all_counts + lists + g * C);
            for (int64_t work = from * count; work < to * count; work++) {
                const int64_t block = work / count, g = work % count;
                copy_near(shape, outward, group_of(shape, images, rows, start + g), block * LANES, near);
                for (int64_t c = 0; c < C; c++) {
                    const int64_t one = lists + g * C + c;
                    add_nine(wheres + one * places, values + one * places, all_counts[one], near, W + 2,
                             (vec *)(own + block * sums + c * 9 * LANES));
                }
            }
        }
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t k = 0; k < (failed ? 0 : K); k++)
        for (int64_t i = 0; i < 9 * C; i++) {
            const int64_t c = i / 9, tap = i % 9;
            float total = 0;
            for (int64_t part = 0; part < parts; part++)
                total += partial[(part * outs + k / LANES) * sums + i * LANES + k % LANES];
            gradient[k * strides->k + c * strides->c + tap / 3 * strides->row + tap % 3 * strides->column] = total;
        }
    free(wheres); free(values); free(all_counts); free(around); free(partial);
    return failed;
}
