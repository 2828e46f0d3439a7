
int @PREFIX@_classify(const uint8_t *pixels, float *logits)
{
    int32_t i;
    for (i = 0; i < @PREFIX_UPPER@_INPUTS; i++) {
        const float share = (float)pixels[i] / 255.0f;
        const float centred = share - MEAN(i / PLANE);
        normalised[i] = centred / STD(i / PLANE);
    }
    return @PREFIX@_run(normalised, logits);
}
