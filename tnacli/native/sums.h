/* Sums of hidden layers with vectors of LANES bytes, part of `variant.h`.
 *
 * Weights are -1, 0 and +1, and of a ternary network most are 0: each output has lists of the inputs that it adds and of those that it
 * subtracts. Numbers lie as bits, a plane of bits for 1, one for 2, one for 4 and so on: a vector adds up as many places as it has
 * bits, with a full adder of a few logic operations. A spike is one such bit; a count of a pool is several, whose planes are summed
 * one after the other. A row is PLACES bytes: bit j of byte i is place i of job j, so that numbers come out again by shifts. What is
 * to be subtracted is added inverted, 1 - s for s, and what that is too much for each entry goes to `beyond`.
 */

/* a + b + c: the sum is left in *a, the carry in *carry; if `inverted`, b and c are taken inverted. */
INLINE void NAME(add)(Bits *a, const Bits *b, const Bits *c, int inverted, Bits *carry) {
    const Bits was = *a;
#if LANES == 64
    const __m512i x = (__m512i)was, y = (__m512i)*b, z = (__m512i)*c;
    *a = (Bits)_mm512_ternarylogic_epi64(x, y, z, 0x96);
    *carry = (Bits)(inverted ? _mm512_ternarylogic_epi64(x, y, z, 0x71) : _mm512_ternarylogic_epi64(x, y, z, 0xE8));
#else
    const Bits odd = was ^ *b, other = was ^ *c;
    *a = odd ^ *c;
    *carry = inverted ? ~((other | odd) ^ was) : (other & odd) ^ was;
#endif
}

/* The planes of a number from `plane` on, `step` vectors apart, += *carry, which is used up. */
INLINE void NAME(ripple)(Bits *number, int64_t step, int plane, int planes, Bits *carry) {
    UNROLLED for (; plane < planes; plane++) {
        const Bits next = number[plane * step] & *carry;
        number[plane * step] ^= *carry;
        *carry = next;
    }
}

/* The lowest two planes of `number` += four rows of a list; *more is how many fours there are beyond. */
INLINE void NAME(fours)(const uint8_t *laid, const uint16_t *list, int inverted, Bits *number, Bits *more) {
#define ROW(i) ((const Bits *)(laid + list[i]))
    Bits one, two;
    NAME(add)(number, ROW(0), ROW(1), inverted, &one);
    NAME(add)(number, ROW(2), ROW(3), inverted, &two);
#undef ROW
    NAME(add)(number + 1, &one, &two, 0, more);
}

INLINE void NAME(eights)(const uint8_t *laid, const uint16_t *list, int inverted, Bits *number, Bits *more) {
    Bits one, two;
    NAME(fours)(laid, list, inverted, number, &one);
    NAME(fours)(laid, list + 4, inverted, number, &two);
    NAME(add)(number + 2, &one, &two, 0, more);
}

/* number += the rows of `laid` that `list` names, of which there are a multiple of four. */
INLINE void NAME(add_list)(const uint8_t *laid, const uint16_t *list, int64_t count, int inverted, Bits *number, int planes) {
    Bits one, two, carry;
    for (; count >= 16; count -= 16, list += 16) {
        NAME(eights)(laid, list, inverted, number, &one);
        NAME(eights)(laid, list + 8, inverted, number, &two);
        NAME(add)(number + 3, &one, &two, 0, &carry);
        NAME(ripple)(number, 1, 4, planes, &carry);
    }
    if (count >= 8) {
        NAME(eights)(laid, list, inverted, number, &carry);
        NAME(ripple)(number, 1, 3, planes, &carry);
        count -= 8;
        list += 8;
    }
    if (!count) return;
    NAME(fours)(laid, list, inverted, number, &carry);
    NAME(ripple)(number, 1, 2, planes, &carry);
}

/* sums += number << shift, which do not overflow their planes, `VECTORS` vectors apart. */
INLINE void NAME(add_number)(Bits *sums, int planes, const Bits *number, int width, int shift) {
    Bits carry = {0};
    sums += shift * VECTORS;
    planes -= shift;
    UNROLLED for (int i = 0; i < width; i++) {
        if (i >= planes) break;
        Bits next;
        NAME(add)(sums + i * VECTORS, number + i, &carry, 0, &next);
        carry = next;
    }
    NAME(ripple)(sums, VECTORS, width, planes, &carry);
}

/* The lists of one block of inputs, whose plane `plane` is laid out, for all outputs of `work`; `width` planes hold a block's sum. */
INLINE void NAME(add_block)(const Lists *lists, const Work *work, int64_t block, int64_t inputs, int plane, int dense, int width) {
    const int64_t vectors = (work->blocks.places + LANES - 1) / LANES;
    Bits all[VECTORS][WIDTH_DENSE] = {{{0}}};
    if (dense) {
        uint16_t every[INPUTS + 4];
        for (int64_t i = 0; i < INPUTS + 4; i++) every[i] = (uint16_t)(i < inputs ? i * PLACES : ZEROS);
        for (int64_t v = 0; v < vectors; v++) NAME(add_list)(work->laid + v * LANES, every, (inputs + 3) / 4 * 4, 0, all[v], width);
    }
    for (int64_t at = block * lists->out; at < (block + 1) * lists->out; at++) {
        const int64_t o = lists->order[at] - work->from;
        if (o < 0 || o >= work->to - work->from) continue;
        const uint32_t *start = lists->starts + 2 * at;
        const uint16_t *one = lists->entries + start[0], *two = lists->entries + start[1];
        const int64_t ones = start[1] - start[0], twos = start[2] - start[1];
        for (int64_t v = 0; v < vectors; v++) {
            const uint8_t *laid = work->laid + v * LANES;
            Bits number[WIDTH_DENSE];
            UNROLLED for (int i = 0; i < width; i++) number[i] = all[v][i];
            NAME(add_list)(laid, one, ones, dense, number, width);
            NAME(add_list)(laid, two, twos, 1, number + dense, width - dense);
            Bits *sums = (Bits *)(work->sums + o * lists->planes * PLACES) + v;
            NAME(add_number)(sums, (int)lists->planes, number, width, plane);
        }
        work->beyond[o] += (int32_t)((dense ? ones + 2 * twos : twos) << plane);
    }
}

/* Bit `plane` of one channel's counts, for all jobs of `work`, where they are needed; returns whether there is any. */
static int NAME(gather)(const Layer *l, const uint8_t *counts, int64_t channel, int plane, const Work *work) {
    const int64_t image = l->N * l->H * l->W, size = work->blocks.window, room = (size + PLACES - 1) / PLACES * PLACES;
    const uint8_t *from[JOBS], *end = counts + l->C * l->T * image;
    for (int64_t j = 0; j < work->jobs; j++) {
        from[j] = counts + (channel * l->T + work->job[j].t) * image + work->job[j].source;
        if (end - from[j] >= room) continue;
        uint8_t *copy = work->window + (j + 1) * room; /* the last places of all: nothing is read beyond them */
        memcpy(copy, from[j], (size_t)(end - from[j]));
        from[j] = copy;
    }
    const uint64_t ones = 0x0101010101010101u;
    Bits any = {0};
    for (int64_t i = 0; i < size; i += LANES) {
        Bits bits = {0};
        for (int64_t j = 0; j < work->jobs; j++) {
            Bits here;
            memcpy(&here, from[j] + i, sizeof here);
            bits |= (here >> plane & ones) << j;
        }
        any |= bits;
        memcpy(work->window + i, &bits, sizeof bits);
    }
    uint64_t some = 0;
    for (unsigned i = 0; i < LANES / sizeof some; i++) some |= any[i];
    return some != 0;
}

/* Copies `length` bytes, or up to seven more. */
INLINE void NAME(copy)(uint8_t *to, const uint8_t *from, int64_t length) {
    int64_t j = 0;
    for (; j + 32 <= length; j += 32) memcpy(to + j, from + j, 32);
    for (; j + 16 <= length; j += 16) memcpy(to + j, from + j, 16);
    for (; j < length; j += 8) memcpy(to + j, from + j, 8);
}

/* Lay out plane `plane` of the rows of inputs `first` to `first + inputs`, of channels and taps; returns whether there is any spike. */
static int NAME(lay_out)(const Layer *l, const uint8_t *counts, int64_t first, int64_t inputs, int plane, const Work *work) {
    const Blocks *b = &work->blocks;
    const int64_t taps = l->kernel * l->kernel;
    int any = 0;
    for (int64_t i = 0; i < inputs; i++) {
        const int64_t tap = (first + i) % taps;
        if (i == 0 || tap == 0) any |= NAME(gather)(l, counts, (first + i) / taps, plane, work);
        uint8_t *to = work->laid + i * PLACES;
        const uint8_t *from = work->window + tap / l->kernel * l->W + tap % l->kernel;
        for (int64_t n = 0; n < b->images; n++)
            for (int64_t h = 0; h < b->rows; h++, to += b->columns) {
                const uint8_t *row = from + (n * l->H + h * l->stride) * l->W;
                if (l->stride == 1) NAME(copy)(to, row, b->columns); /* what runs over is overwritten by the next */
                else
                    for (int64_t w = 0; w < b->columns; w++) to[w] = row[w * l->stride];
            }
    }
    return any;
}

/* All sums of the jobs of `work`, as planes of bits in work->sums, and in work->beyond what they are too large by. */
static void NAME(sum_up)(const Layer *l, const Lists *lists, const uint8_t *counts, const Work *work) {
    const int64_t all = l->C * l->kernel * l->kernel, outs = work->to - work->from;
    memset(work->sums, 0, (size_t)(outs * lists->planes) * PLACES);
    memset(work->beyond, 0, (size_t)outs * sizeof *work->beyond);
    for (int64_t block = 0; block < lists->blocks; block++)
        for (int plane = 0; l->counts_to >> plane; plane++) {
            const int64_t first = block * lists->each, inputs = least(all - first, lists->each);
            if (!NAME(lay_out)(l, counts, first, inputs, plane, work)) continue; /* silent: adds nothing */
            if (lists->dense) NAME(add_block)(lists, work, block, inputs, plane, 1, WIDTH_DENSE);
            else NAME(add_block)(lists, work, block, inputs, plane, 0, WIDTH);
        }
}

/* The sums of one output and job as numbers. */
INLINE void NAME(take)(const Work *work, int64_t planes, int64_t o, int64_t job, int32_t *total) {
    const Bits *sums = (const Bits *)(work->sums + o * planes * PLACES);
    for (int i = 0; i < PLACES; i++) total[i] = -work->beyond[o];
    for (int64_t eight = 0; eight < planes; eight += 8) {
        uint8_t bytes[PLACES];
        for (int64_t v = 0; v < VECTORS; v++) {
            Bits found = {0};
            for (int64_t i = 0; i < 8 && eight + i < planes; i++) {
                const Bits plane = sums[(eight + i) * VECTORS + v];
                found |= (job >= i ? plane >> (job - i) : plane << (i - job)) & (uint64_t)(0x0101010101010101u << i);
            }
            memcpy(bytes + v * LANES, &found, sizeof found);
        }
        for (int i = 0; i < PLACES; i++) total[i] += (int32_t)((uint32_t)bytes[i] << eight);
    }
}
