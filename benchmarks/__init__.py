"""tnacli beside other libraries and beside the hardware's limit: `python -m benchmarks --help`.

`__main__` is the command and `suites` says what is measured. Each measurement runs in processes of its own (`worker`), so one
that fails loses nothing but itself. `training` and `evaluation` are what is timed, `layerwise` and `peers` the same network
in other libraries, `targets` and `document` what comes of it.
"""
