/* The one LIF step (Eq. 1) of the compiled kernels. Compile without contraction of a * b + c: each operation is rounded once. */
#ifndef TNACLI_LIF_H
#define TNACLI_LIF_H

#include <stdint.h>

/* A timestep: the membrane potential u = keep * v + current, which spikes where u >= threshold; v is what is left of it, 0
 * after a spike. `keep` is the decay, 0 at the first timestep. */
static inline float lif_step(float keep, float current, float threshold, float *v) {
    const float u = keep * *v + current;
    *v = u >= threshold ? 0.0f : u;
    return u;
}

/* Neurons in general: up to `most` spikes in a timestep, one for each threshold in u, each of which takes `subtract` away, or all
 * where that is 0; what is left is `lowest` at least. */
typedef struct {
    float decay, threshold, subtract, lowest;
    int32_t most;
} Neurons;

/* A timestep of them: the number of spikes. */
static inline uint32_t general_step(float keep, float current, const Neurons *n, float *v) {
    const float u = keep * *v + current, fitting = u / n->threshold;
    const int32_t spikes = fitting >= (float)n->most ? n->most : fitting >= 1.0f ? (int32_t)fitting : 0;
    const float taken = (float)spikes * n->subtract;
    const float left = n->subtract > 0 ? u - taken : spikes ? 0.0f : u;
    *v = left < n->lowest ? n->lowest : left;
    return (uint32_t)spikes;
}

#endif
