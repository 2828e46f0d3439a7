/* The lists of a layer's weights, from the rows of bytes in which a packed file has them; part of `engine.c`.
 *
 * A byte holds `digits` weights as digits of `base`: 0, 1 and 2 for -1, 0 and +1, the first the least significant. A block takes as
 * many whole bytes as have up to INPUTS weights.
 */

typedef uint16_t Places __attribute__((vector_size(16)));

/* Which weights of a byte are of each of the two kinds that are listed, and how many: of the first, of the second << 16. */
typedef struct {
    Places places[2][256];
    uint32_t counts[256];
} Digits;

static void look_up(int64_t base, int64_t digits, int64_t dense, Digits *table) {
    memset(table, 0, sizeof *table);
    for (int byte = 0; byte < 256; byte++) {
        int64_t rest = byte;
        for (int64_t i = 0; i < digits; i++, rest /= base)
            for (int kind = 0; kind < 2; kind++)
                if (rest % base == (kind ? 0 : dense ? 1 : 2)) {
                    const int64_t at = table->counts[byte] >> 16 * kind & 0xFF;
                    table->places[kind][byte][at] = (uint16_t)(i * PLACES);
                    table->counts[byte] += 1u << 16 * kind;
                }
    }
}

/* How many weights of each kind there are: [blocks][out], of the first, of the second << 16, of `rows` [out][row_bytes] of `inputs`
 * weights each. Part `index` of `parts`. */
EXPORTED void count_weights(const uint8_t *rows, int64_t out, int64_t inputs, int64_t base, int64_t digits, int64_t dense,
                            uint32_t *counts, int64_t index, int64_t parts) {
    const int64_t row_bytes = (inputs + digits - 1) / digits, each = INPUTS / digits, blocks = (row_bytes + each - 1) / each;
    Digits table;
    int64_t from, to;
    look_up(base, digits, dense, &table);
    part_of(out, index, parts, &from, &to);
    for (int64_t o = from; o < to; o++)
        for (int64_t b = 0; b < blocks; b++) {
            uint32_t sum = 0;
            for (int64_t i = b * each; i < least((b + 1) * each, row_bytes); i++) sum += table.counts[rows[o * row_bytes + i]];
            /* What is left of a row's last byte are zeros, and no weights. */
            if (dense && b == blocks - 1) sum -= (uint32_t)(row_bytes * digits - inputs);
            counts[b * out + o] = sum;
        }
}

/* The lengths [blocks][out][2] of lists of `counts` weights, multiples of four, of the outputs in `order` [blocks][out], which puts those
 * with lists of one length together: the ends of loops can then be foreseen. */
EXPORTED void order_lists(const uint32_t *counts, int64_t blocks, int64_t out, uint32_t *lengths, uint16_t *order) {
    enum { KINDS = INPUTS / 4 + 1 };
    for (int64_t b = 0; b < blocks; b++, counts += out, lengths += 2 * out, order += out) {
        uint32_t place[KINDS * KINDS + 1] = {0};
        for (int pass = 0; pass < 2; pass++) {
            for (int64_t o = 0; o < out; o++) {
                const uint32_t one = ((counts[o] & 0xFFFF) + 3) / 4, two = ((counts[o] >> 16) + 3) / 4, kind = one * KINDS + two;
                if (pass == 0) {
                    place[kind + 1]++;
                    continue;
                }
                const uint32_t at = place[kind]++;
                order[at] = (uint16_t)o;
                lengths[2 * at] = 4 * one;
                lengths[2 * at + 1] = 4 * two;
            }
            for (int kind = 0; pass == 0 && kind < KINDS * KINDS; kind++) place[kind + 1] += place[kind];
        }
    }
}

/* Fill the lists of `rows` that begin at `starts` [blocks][out][2]; what is left of each becomes entries for a row of zeros. */
EXPORTED void fill_lists(const uint8_t *rows, int64_t out, int64_t inputs, int64_t base, int64_t digits, int64_t dense,
                         const uint32_t *starts, const uint16_t *order, uint16_t *entries, int64_t index, int64_t parts) {
    const int64_t row_bytes = (inputs + digits - 1) / digits, each = INPUTS / digits, blocks = (row_bytes + each - 1) / each;
    Digits table;
    int64_t from, to;
    look_up(base, digits, dense, &table);
    part_of(blocks * out, index, parts, &from, &to);
    for (int64_t at = from; at < to; at++) {
        const int64_t b = at / out, end = (inputs - b * each * digits) * PLACES;
        const uint8_t *row = rows + order[at] * row_bytes + b * each;
        const int64_t bytes = least(each, row_bytes - b * each);
        uint16_t found[2][INPUTS + 8];
        uint32_t count = 0; /* of both kinds, as in the table */
        Places first = {0};
        for (int64_t i = 0; i < bytes; i++, first += (uint16_t)(digits * PLACES))
            for (int kind = 0; kind < 2; kind++) {
                const Places here = table.places[kind][row[i]] + first;
                memcpy(found[kind] + (count >> 16 * kind & 0xFFFF), &here, sizeof here);
                if (kind) count += table.counts[row[i]];
            }
        for (int kind = 0; kind < 2; kind++) {
            int64_t length = count >> 16 * kind & 0xFFFF;
            while (length && found[kind][length - 1] >= end) length--; /* the zeros after a row's last weight */
            while (length % 4) found[kind][length++] = ZEROS;
            memcpy(entries + starts[2 * at + kind], found[kind], (size_t)length * sizeof **found);
        }
    }
}
