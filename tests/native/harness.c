/* A layer from stdin through every function of engine.c to stdout, for processors that are emulated: numbers as they lie in memory. */
#include <stdio.h>

#include "engine.c"

static void *given(size_t size) {
    void *memory = calloc(size, 1);
    if (!memory || fread(memory, 1, size, stdin) != size) exit(2);
    return memory;
}

int main(void) {
    int64_t *n = given(15 * sizeof *n); /* the numbers of Layer, dense and planes of Lists, and most of Neurons */
    float *neuron = given(4 * sizeof *neuron);
    const Layer l = {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11],
                     {neuron[0], neuron[1], neuron[2], neuron[3], (int32_t)n[14]}};
    const int64_t inputs = l.C * l.kernel * l.kernel, blocks = (inputs + INPUTS - 1) / INPUTS, cells = l.T * l.N * l.outH * l.outW;
    uint8_t *rows = given((size_t)(l.out * ((inputs + 3) / 4)));
    uint8_t *counts = given((size_t)(l.C * l.T * l.N * l.H * l.W));
    float *scale = given((size_t)l.out * 4), *shift = given((size_t)l.out * 4);
    float *x = given((size_t)(l.N * l.C * l.H * l.W) * 4), *weights = given((size_t)(l.out * inputs) * 4);
    uint32_t *lengths = calloc((size_t)(blocks * l.out * 2 + 1), 4), end = 0;
    uint16_t *order = calloc((size_t)(blocks * l.out), 2);
    uint32_t *weighed = calloc((size_t)(blocks * l.out), 4);
    count_weights(rows, l.out, inputs, 4, 4, n[12], weighed, 0, 1);
    order_lists(weighed, blocks, l.out, lengths, order);
    for (int64_t i = 0; i <= blocks * l.out * 2; i++) {
        const uint32_t length = i < blocks * l.out * 2 ? lengths[i] : 0;
        lengths[i] = end;
        end += length;
    }
    uint16_t *entries = calloc(end + 1, 2);
    fill_lists(rows, l.out, inputs, 4, 4, n[12], lengths, order, entries, 0, 1);
    const Lists lists = {blocks, INPUTS, l.out, entries, lengths, order, n[12], n[13]};
    float *currents = calloc((size_t)(l.out * cells), 4), *sums = calloc((size_t)(l.out * cells), 4);
    uint8_t *spikes = calloc((size_t)(l.out * cells), 1), *again = calloc((size_t)(l.out * cells), 1);
    const int64_t each = l.outH * l.outW, from[2] = {l.C * l.H * l.W, l.H * l.W}, to[2] = {l.out * each, each};
    if (!variant_name(0)) return 3;
    use_variant(0);
    for (int64_t part = 0; part < 3; part++) {
        if (layer(&l, &lists, counts, scale, shift, currents, NULL, part, 3)) return 4;
        if (layer(&l, &lists, counts, scale, shift, NULL, spikes, part, 3)) return 4;
        if (ordered(&l, x, from, weights, sums, to, part, 3)) return 4;
    }
    lif(currents, 0, l.out, l.T, l.N * each, &l.neurons, again, 0, 1);
    fwrite(currents, 4, (size_t)(l.out * cells), stdout);
    fwrite(spikes, 1, (size_t)(l.out * cells), stdout);
    fwrite(again, 1, (size_t)(l.out * cells), stdout);
    fwrite(sums, 4, (size_t)(l.out * l.N * each), stdout);
    return 0;
}
