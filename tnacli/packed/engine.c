/* The packed network's work on one layer: sums of spike counts, neurons, pooling.
 *
 * Sums of spike counts with weights -1, 0 and +1 are looked up in tables, four products in one step of a byte shuffle. Four
 * neighbouring input channels make a group. The bits of one significance of their counts are a number from 0 to 15, and four
 * ternary weights allow 81 tables of 16 sums from -4 to 4. So one shuffle instruction, with a table chosen by the weights of
 * one output and indices from LANES places, gives LANES sums of four products. Binary spikes need one such plane of bits;
 * counts of a pooling over 2 x 2, 0 to 4, need three, added as ((plane 2) * 2 + plane 1) * 2 + plane 0.
 * (Table lookup for low-bit weights: Wei et al. 2024, T-MAC, with tables of activations; here tables are of weights, which
 * takes the ternary ones whole.)
 *
 * All is integer arithmetic without rounding or overflow: at most CHUNK sums are added in 8 bits (31 * 4 < 128), those of at
 * most BLOCK groups in 16 bits, all of them in 32.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../snn/lif.h"

#if defined(__AVX2__)
#include <immintrin.h>
#define LANES 32
#elif defined(__SSSE3__)
#include <tmmintrin.h>
#define LANES 16
#elif defined(__aarch64__)
#include <arm_neon.h>
#define LANES 16
#else
#define LANES 16
#define NO_SHUFFLE
#endif

#define GROUP 4                /* input channels of a table */
#define WIDE 4                 /* vectors of places worked on at once */
#define PLACES (WIDE * LANES)  /* places worked on at once */
#define CHUNK 31               /* lookups added up in 8 bits */
#define BLOCK (8 * CHUNK)      /* groups whose indices are laid out at once: they stay in the nearest caches */
#define SLACK 8                /* bytes that copies of eight may run over */

typedef int8_t Bytes __attribute__((vector_size(LANES)));

typedef struct {
    int64_t T, N, H, W, C;             /* timesteps, images, height, width and channels of the counts */
    int64_t out, kernel, stride;       /* zeros are added around the image: kernel / 2 on each side */
    int64_t counts_to;                 /* counts are 0 to this */
} Shape;

static int8_t tables[81][16] __attribute__((aligned(64)));

/* To be called once before all else. Table i is of the weights whose value + 1 are the digits of i, base 3, lowest first. */
void fill_tables(void) {
    for (int code = 0; code < 81; code++)
        for (int bits = 0; bits < 16; bits++) {
            int sum = 0, rest = code;
            for (int input = 0; input < GROUP; input++, rest /= 3) sum += (bits >> input & 1) * (rest % 3 - 1);
            tables[code][bits] = (int8_t)sum;
        }
}

/* The tables' numbers [out][groups][taps] of weights [out][in][taps]; a last group that is not full has zero weights. */
void ternary_codes(const int8_t *weight, int64_t out, int64_t in, int64_t taps, uint8_t *codes) {
    static const int places[GROUP] = {1, 3, 9, 27};
    const int64_t groups = (in + GROUP - 1) / GROUP;
    for (int64_t row = 0; row < out * groups; row++) {
        const int64_t first = row % groups * GROUP, full = in - first < GROUP ? in - first : GROUP;
        const int8_t *restrict from = weight + (row / groups * in + first) * taps;
        for (int64_t tap = 0; tap < taps; tap++) {
            int code = 0;
            for (int64_t input = 0; input < GROUP; input++)
                code += places[input] * ((input < full ? from[input * taps + tap] : 0) + 1);
            codes[row * taps + tap] = (uint8_t)code;
        }
    }
}

static inline Bytes table_of(uint8_t code) {
#if defined(__AVX2__)
    return (Bytes)_mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)tables[code]));
#else
    Bytes table;
    memcpy(&table, tables[code], 16);
    return table;
#endif
}

static inline Bytes look_up(Bytes table, Bytes bits) {
#if defined(__AVX2__)
    return (Bytes)_mm256_shuffle_epi8((__m256i)table, (__m256i)bits);
#elif defined(__SSSE3__)
    return (Bytes)_mm_shuffle_epi8((__m128i)table, (__m128i)bits);
#elif defined(__aarch64__)
    return (Bytes)vqtbl1q_s8((int8x16_t)table, (uint8x16_t)bits);
#else
    Bytes found;
    for (int lane = 0; lane < LANES; lane++) found[lane] = table[bits[lane]];
    return found;
#endif
}

/* Whether this was compiled for a processor with byte shuffles, without which lookups are slow. */
int has_shuffle(void) {
#ifdef NO_SHUFFLE
    return 0;
#else
    return 1;
#endif
}

/* total[output][place] += sums of `count` groups for two outputs and `wide` vectors of places. */
static inline __attribute__((always_inline)) void add_two(int wide, const uint8_t *bits, const uint8_t *one,
                                                          const uint8_t *two, int64_t count, int16_t *total) {
    for (int64_t start = 0; start < count; start += CHUNK) {
        const int64_t end = start + CHUNK < count ? start + CHUNK : count;
        Bytes a[WIDE], b[WIDE];
        for (int i = 0; i < wide; i++) a[i] = b[i] = (Bytes){0};
        for (int64_t k = start; k < end; k++) {
            const Bytes first = table_of(one[k]), second = table_of(two[k]);
            for (int i = 0; i < wide; i++) {
                Bytes at;
                memcpy(&at, bits + k * PLACES + i * LANES, LANES);
                a[i] += look_up(first, at);
                b[i] += look_up(second, at);
            }
        }
        for (int i = 0; i < wide; i++)
            for (int lane = 0; lane < LANES; lane++) {
                total[i * LANES + lane] = (int16_t)(total[i * LANES + lane] + a[i][lane]);
                total[PLACES + i * LANES + lane] = (int16_t)(total[PLACES + i * LANES + lane] + b[i][lane]);
            }
    }
}

static void add_groups(int64_t places, const uint8_t *bits, const uint8_t *one, const uint8_t *two, int64_t count,
                       int16_t *total) {
    switch ((places + LANES - 1) / LANES) {
    case 1: add_two(1, bits, one, two, count, total); break;
    case 2: add_two(2, bits, one, two, count, total); break;
    case 3: add_two(3, bits, one, two, count, total); break;
    default: add_two(WIDE, bits, one, two, count, total);
    }
}

/* Where the places of a block lie in a plane of indices: runs of neighbours, each `length` from `source`. */
typedef struct { int64_t source, length; } Run;

/* Planes [plane][group][N][H + 2 pad][W + 2 pad] of counts [N][H][W][C]; zeros around the images and after the last
 * channel. */
static void split_into_planes(const Shape *s, const uint8_t *counts, int64_t planes, int64_t groups, int64_t plane_size,
                              uint8_t *to, int64_t from_row, int64_t to_row) {
    const int64_t pad = s->kernel / 2, H = s->H + 2 * pad, W = s->W + 2 * pad;
    for (int64_t row = from_row; row < to_row; row++) { /* of N * H */
        const uint8_t *in = counts + row * s->W * s->C;
        uint8_t *at = to + ((row / s->H * H) + row % s->H + pad) * W + pad;
        for (int64_t g = 0; g < groups; g++) {
            const int64_t left = s->C - g * GROUP;
            for (int64_t w = 0; w < s->W; w++) {
                uint32_t four = 0;
                if (left >= GROUP) memcpy(&four, in + w * s->C + g * GROUP, GROUP);
                else memcpy(&four, in + w * s->C + g * GROUP, (size_t)left);
                for (int64_t p = 0; p < planes; p++)
                    at[(p * groups + g) * plane_size + w] = (uint8_t)((four >> p & 0x01010101u) * 0x01020408u >> 24);
            }
        }
    }
}

static void lay_out(const Shape *s, const uint8_t *plane, const Run *runs, int64_t run_count, uint8_t *to) {
    for (int64_t i = 0; i < run_count; i++) {
        const uint8_t *from = plane + runs[i].source;
        if (s->stride == 1) /* in eights; what runs over is overwritten by the next */
            for (int64_t j = 0; j < runs[i].length; j += 8) memcpy(to + j, from + j, 8);
        else
            for (int64_t j = 0; j < runs[i].length; j++) to[j] = from[j * s->stride];
        to += runs[i].length;
    }
}

static void part(int64_t count, int64_t index, int64_t parts, int64_t *from, int64_t *to) {
    *from = count * index / parts;
    *to = count * (index + 1) / parts;
}

/* What a thread works with: a block of up to PLACES places of one timestep, and all outputs from `from` to `to`. */
typedef struct {
    int64_t place, count, from, to;
    uint8_t *laid;   /* indices of one block of groups, [plane][group][place] */
    int32_t *total;  /* sums of counts, [output][place] */
    float *v;        /* potentials, [output][place] */
    uint8_t *spikes; /* [output][place] */
} Work;

/* Everything that the sums of a call share. */
typedef struct {
    const Shape *shape;
    const uint8_t *weights; /* [out][group][tap] */
    uint8_t *bits;          /* planes of indices */
    int64_t planes, groups, plane_size, outH, outW;
} Task;

/* Sums of a block, as integers, in work->total. */
static void sum_block(const Task *task, Work *work) {
    const Shape *s = task->shape;
    const int64_t taps = s->kernel * s->kernel, pad = s->kernel / 2, all = task->groups * taps;
    const int64_t H = s->H + 2 * pad, W = s->W + 2 * pad;
    Run runs[PLACES];
    int64_t run_count = 0;
    for (int64_t at = work->place, end = work->place + work->count; at < end;) {
        const int64_t n = at / (task->outH * task->outW), h = at / task->outW % task->outH, w = at % task->outW;
        const int64_t length = task->outW - w < end - at ? task->outW - w : end - at;
        runs[run_count++] = (Run){(n * H + h * s->stride) * W + w * s->stride, length};
        at += length;
    }
    memset(work->total, 0, (size_t)((work->to - work->from) * PLACES) * sizeof(int32_t));
    /* As many groups as surely add up in 16 bits: a BLOCK of counts up to 33, fewer of larger ones. */
    const int64_t fit = INT16_MAX / (s->counts_to * GROUP), at_once = fit < BLOCK ? fit : BLOCK;
    for (int64_t k = 0; k < all; k += at_once) {
        const int64_t here = all - k < at_once ? all - k : at_once;
        for (int64_t p = 0; p < task->planes; p++)
            for (int64_t i = 0; i < here; i++) {
                const int64_t g = (k + i) / taps, tap = (k + i) % taps;
                const uint8_t *plane = task->bits + (p * task->groups + g) * task->plane_size;
                lay_out(s, plane + tap / s->kernel * W + tap % s->kernel, runs, run_count,
                        work->laid + (p * BLOCK + i) * PLACES);
            }
        for (int64_t o = work->from; o < work->to; o += 2) {
            const int both = o + 1 < work->to;
            const uint8_t *one = task->weights + o * all + k, *two = both ? one + all : one;
            int16_t sum[2 * PLACES] = {0};
            for (int64_t p = task->planes - 1; p >= 0; p--) {
                if (p < task->planes - 1)
                    for (int i = 0; i < 2 * PLACES; i++) sum[i] = (int16_t)(2 * sum[i]);
                add_groups(work->count, work->laid + p * BLOCK * PLACES, one, two, here, sum);
            }
            int32_t *to = work->total + (o - work->from) * PLACES;
            for (int i = 0; i < (both ? 2 : 1) * PLACES; i++) to[i] += sum[i];
        }
    }
}

/* The sums of a block, times unit, to sums [places][out]. */
static void store_sums(const Work *work, int64_t out, float unit, float *sums) {
    for (int64_t some = work->from; some < work->to; some += 16) { /* few rows at once, or they push each other from the cache */
        const int64_t end = some + 16 < work->to ? some + 16 : work->to;
        for (int64_t at = 0; at < work->count; at++)
            for (int64_t o = some; o < end; o++)
                sums[(work->place + at) * out + o] = (float)work->total[(o - work->from) * PLACES + at] * unit;
    }
}

/* One timestep of one output's neurons, driven by sum * unit * scale + shift. */
static void step(const int32_t *restrict total, float unit, float scale, float shift, float keep, float threshold,
                 float *restrict v, uint8_t *restrict spikes) {
    uint32_t spiked[PLACES];
    for (int i = 0; i < PLACES; i++) {
        const float u = lif_step(keep, (float)total[i] * unit * scale + shift, threshold, &v[i]);
        spiked[i] = u >= threshold ? 1 : 0;
    }
    for (int i = 0; i < PLACES; i++) spikes[i] = (uint8_t)spiked[i];
}

/* 8 rows of 8 bytes to 8 columns. */
static void transpose_eight(const uint8_t *from, int64_t from_stride, uint8_t *to, int64_t to_stride) {
    uint64_t x[8], y;
    for (int i = 0; i < 8; i++) memcpy(&x[i], from + i * from_stride, 8);
    const uint64_t masks[3] = {0x00ff00ff00ff00ffu, 0x0000ffff0000ffffu, 0x00000000ffffffffu};
    for (int level = 0; level < 3; level++)
        for (int i = 0; i < 8; i++)
            if (!(i >> level & 1)) { /* swap the upper parts of one with the lower parts of the other */
                const int j = i | 1 << level, shift = 8 << level;
                y = (x[i] >> shift ^ x[j]) & masks[level];
                x[j] ^= y;
                x[i] ^= y << shift;
            }
    for (int i = 0; i < 8; i++) memcpy(to + i * to_stride, &x[i], 8);
}

/* work->spikes to spikes [places][out]. */
static void store_spikes(const Work *work, int64_t out, uint8_t *spikes) {
    for (int64_t o = work->from; o < work->to; o += 8)
        for (int64_t at = 0; at < work->count; at += 8) {
            const uint8_t *from = work->spikes + (o - work->from) * PLACES + at;
            uint8_t *to = spikes + (work->place + at) * out + o;
            if (o + 8 <= work->to && at + 8 <= work->count)
                transpose_eight(from, PLACES, to, out);
            else
                for (int64_t i = 0; i < (work->count - at < 8 ? work->count - at : 8); i++)
                    for (int64_t j = 0; j < (work->to - o < 8 ? work->to - o : 8); j++) to[i * out + j] = from[j * PLACES + i];
        }
}

/* fp32 sums [T * N][outH][outW][out], divided by counts_to, of counts [T * N][H][W][C] with weights [out][group][tap]: each
 * byte the number of a table. With `spikes`, uint8 of the same shape, what LIF neurons make of sum * scale + shift instead
 * (scale, shift: [out]), and `sums` may be NULL. Returns 0, or 1 if memory ran out. */
int ternary_layer(const Shape *s, const uint8_t *counts, const uint8_t *weights, float *sums, const float *scale,
                  const float *shift, float decay, float threshold, uint8_t *spikes, int64_t threads) {
    const int64_t pad = s->kernel / 2, groups = (s->C + GROUP - 1) / GROUP, images = s->T * s->N;
    const float unit = 1.0f / (float)s->counts_to;
    Task task = {s, weights, NULL, 1, groups, images * (s->H + 2 * pad) * (s->W + 2 * pad),
                 (s->H - 1) / s->stride + 1, (s->W - 1) / s->stride + 1};
    while (s->counts_to >> task.planes) task.planes++;
    const int64_t places = s->N * task.outH * task.outW, blocks = (places + PLACES - 1) / PLACES;
    const int64_t parts = blocks < threads ? threads : 1; /* few places: threads share the outputs */
    const size_t laid_size = (size_t)(task.planes * BLOCK * PLACES + SLACK), cells = (size_t)(s->out * PLACES);
    const size_t each = (laid_size + 63) / 64 * 64 + cells * (sizeof(int32_t) + (spikes ? sizeof(float) + 1 : 0));
    const size_t bits_size = (size_t)(task.planes * groups * task.plane_size + SLACK);
    task.bits = pad ? calloc(bits_size, 1) : malloc(bits_size);
    uint8_t *memory = malloc((size_t)threads * each);
    const int failed = !task.bits || !memory;
    if (!failed) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
        for (int64_t index = 0; index < threads; index++) {
            int64_t from, to;
            part(images * s->H, index, threads, &from, &to);
            split_into_planes(s, counts, task.planes, groups, task.plane_size, task.bits, from, to);
        }
#pragma omp parallel for num_threads(threads) schedule(static, 1)
        for (int64_t index = 0; index < threads; index++) {
            int64_t from, to;
            Work work;
            work.laid = memory + (size_t)index * each;
            work.total = (int32_t *)(work.laid + (laid_size + 63) / 64 * 64);
            work.v = (float *)(work.total + cells);
            work.spikes = (uint8_t *)(work.v + cells);
            part(blocks * parts, index, threads, &from, &to);
            for (int64_t number = from; number < to; number++) {
                const int64_t first = number / parts * PLACES;
                part(s->out, number % parts, parts, &work.from, &work.to);
                work.count = places - first < PLACES ? places - first : PLACES;
                if (spikes) memset(work.v, 0, (size_t)((work.to - work.from) * PLACES) * sizeof(float));
                for (int64_t t = 0; t < s->T; t++) {
                    work.place = t * places + first;
                    sum_block(&task, &work);
                    if (!spikes) {
                        store_sums(&work, s->out, unit, sums);
                        continue;
                    }
                    for (int64_t o = work.from; o < work.to; o++) {
                        const int64_t at = (o - work.from) * PLACES;
                        step(work.total + at, unit, scale[o], shift[o], t ? decay : 0.0f, threshold, work.v + at,
                             work.spikes + at);
                    }
                    store_spikes(&work, s->out, spikes);
                }
            }
        }
    }
    free(task.bits);
    free(memory);
    return failed;
}

/* Spikes [T][count], 0 or 1, of LIF neurons (Eq. 1) with currents [T][count], or [count] if they are `repeated`. */
void lif(const float *current, int64_t repeated, int64_t T, int64_t count, float decay, float threshold, uint8_t *spikes,
         int64_t threads) {
    const int64_t blocks = (count + PLACES - 1) / PLACES;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < threads; index++) {
        int64_t from, to;
        part(blocks, index, threads, &from, &to);
        for (int64_t block = from; block < to; block++) {
            const int64_t first = block * PLACES, here = count - first < PLACES ? count - first : PLACES;
            float v[PLACES] = {0};
            uint32_t spiked[PLACES];
            for (int64_t t = 0; t < T; t++) {
                const float *restrict at = current + (repeated ? 0 : t) * count + first;
                uint8_t *restrict out = spikes + t * count + first;
                const float keep = t ? decay : 0.0f;
                for (int64_t i = 0; i < here; i++) {
                    const float u = lif_step(keep, at[i], threshold, &v[i]);
                    spiked[i] = u >= threshold ? 1 : 0;
                }
                for (int64_t i = 0; i < here; i++) out[i] = (uint8_t)spiked[i];
            }
        }
    }
}

/* How many of each size x size spikes [N][H][W][C] there are: counts [N][H / size][W / size][C]. */
void pool(const uint8_t *spikes, int64_t N, int64_t H, int64_t W, int64_t C, int64_t size, uint8_t *counts,
          int64_t threads) {
    const int64_t outH = H / size, outW = W / size;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t index = 0; index < threads; index++) {
        int64_t from, to;
        part(N * outH * outW, index, threads, &from, &to);
        for (int64_t place = from; place < to; place++) {
            const int64_t n = place / (outH * outW), h = place / outW % outH, w = place % outW;
            uint8_t *restrict count = counts + place * C;
            memset(count, 0, (size_t)C);
            for (int64_t inner = 0; inner < size * size; inner++) {
                const int64_t row = (n * H + h * size + inner / size) * W + w * size + inner % size;
                const uint8_t *restrict at = spikes + row * C;
                for (int64_t c = 0; c < C; c++) count[c] = (uint8_t)(count[c] + at[c]);
            }
        }
    }
}
