/* The one LIF step (Eq. 1) of the compiled kernels. Compile without contraction of a * b + c: each operation is rounded once. */
#ifndef TNACLI_LIF_H
#define TNACLI_LIF_H

/* A timestep: the membrane potential u = keep * v + current, which spikes where u >= threshold; v is what is left of it, 0
 * after a spike. `keep` is the decay, 0 at the first timestep. */
static inline float lif_step(float keep, float current, float threshold, float *v) {
    const float u = keep * *v + current;
    *v = u >= threshold ? 0.0f : u;
    return u;
}

/* The same where a spike takes `subtract` away, and leaves the rest. */
static inline float soft_step(float keep, float current, float threshold, float subtract, float *v) {
    const float u = keep * *v + current;
    *v = u - (u >= threshold ? subtract : 0.0f);
    return u;
}

#endif
