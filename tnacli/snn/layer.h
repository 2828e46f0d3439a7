/* A layer of neurons, and the codes of their history, [(T + 3) / 4, rows, C]: two bits a timestep; bit 0, it spiked; bit 1, its
 * potential was inside the surrogate's window. Four timesteps share a byte: plane t / 4, bits 2 * (t % 4). */
#ifndef TNACLI_LAYER_H
#define TNACLI_LAYER_H

#include <stdint.h>

#define SPIKED 1
#define INSIDE 2

typedef struct {
    int64_t T, N, H, W, C; /* timesteps, samples, height and width before pooling, channels */
    int64_t pool;          /* pooling over pool x pool; 1 for none */
    int64_t repeated;      /* the current is the same at every timestep: x has one step only */
    int64_t half;          /* activations and their gradients are bf16 */
    float decay, threshold, window, height;
} Layer;

#endif
