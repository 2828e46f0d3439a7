
int @PREFIX@_run_in(@PREFIX@_memory *memory, const float *input, float *logits)
{
    const given floats = {input, 0};
    return classified(memory, &floats, logits);
}

#ifndef @PREFIX_UPPER@_CALLERS_MEMORY
int @PREFIX@_run(const float *input, float *logits) { return @PREFIX@_run_in(&@PREFIX@_own_memory, input, logits); }
#endif
