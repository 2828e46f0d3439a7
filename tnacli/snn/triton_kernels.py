"""Three Triton kernels for CUDA: from a summed input to pooled spikes, the sums of batch norm's gradient, the gradient.

Each works on tiles [R, B]: R windows of P x P pixels that are pooled together, and B channels, which lie side by side in
memory (channels last). The pixels of the windows are gone through one after the other, each through all T timesteps with its
potentials in registers, in fp32 whatever comes and goes: so no number passes from one thread to another. Nothing is kept for
the backward pass but the summed input, which batch norm keeps anyway: the
kernels of the backward pass compute from it, anew, two bits a neuron and timestep: whether it fired, and whether its
potential was within the surrogate's window.

A branch is a summed input x [T * N or N, C, H, W] (or [.., C]), and a table of fp32 [2 or 4, C]: scale, shift and, for the
backward pass through batch norm, mean and 1 / standard deviation. A layer with a shortcut has two branches, whose currents
`x * scale + shift` add up. Products and sums are rounded one by one (no fused multiply-add), as in `tnacli.snn.lif`.

This module needs the package triton. With TRITON_INTERPRET=1 the kernels run on the CPU, in Triton's interpreter.
"""

from __future__ import annotations

import triton
import triton.language as tl

_VARYING = ["N", "H", "W", "rows", "columns", "each", "key0", "key1", "limit"]  # a new value compiles nothing anew


@triton.jit
def _tile(C: tl.constexpr, B: tl.constexpr):
    """The number of this program's tile: programs side by side take the blocks of channels of one, which lie side by side."""
    return tl.program_id(0) // tl.cdiv(C, B)


@triton.jit
def _channels(C: tl.constexpr, B: tl.constexpr):
    return tl.program_id(0) % tl.cdiv(C, B) * B + tl.arange(0, B)


@triton.jit
def _row(table, row: tl.constexpr, C: tl.constexpr, B: tl.constexpr):
    """A row of a table [.., C], as [1, B]."""
    c = _channels(C, B)
    return tl.load(table + row * C + c, mask=c < C, other=0.0)[None, :]


@triton.jit
def _pixel(first, k, N, H, W, rows, columns, C: tl.constexpr, P: tl.constexpr, R: tl.constexpr, B: tl.constexpr):
    """Offsets [R, B] of pixel k of the windows from `first` on, of [N, rows, columns] windows, and which there are."""
    window, c = first + tl.arange(0, R), _channels(C, B)
    sample, h, w = window // columns // rows, window // columns % rows * P + k // P, window % columns * P + k % P
    there = (sample < N) & (h < H) & (w < W)
    pixel = (sample.to(tl.int64) * H + h) * W + w
    return pixel[:, None] * C + c[None, :], there[:, None] & (c < C)[None, :]


@triton.jit
def _pooled(first, N, H, W, rows, columns, C: tl.constexpr, P: tl.constexpr, R: tl.constexpr, B: tl.constexpr):
    """Offsets [R, B] of what the windows are pooled to, and which there are: none of a window that is not whole."""
    window, c = first + tl.arange(0, R), _channels(C, B)
    sample, row, column = window // columns // rows, window // columns % rows, window % columns
    there = (sample < N) & (row < H // P) & (column < W // P)
    at = (sample.to(tl.int64) * (H // P) + row) * (W // P) + column
    return at[:, None] * C + c[None, :], there[:, None] & (c < C)[None, :]


@triton.jit
def _mixed(h):
    """32 bits mixed (Wellons, hash-prospector, lowbias32), as in `tnacli.snn.dropout`."""
    h = (h ^ (h >> 16)) * 0x7FEB352D
    h = (h ^ (h >> 15)) * 0x846CA68B
    return h ^ (h >> 16)


@triton.jit
def _kept(out, key0, key1, limit, rescale):
    """What dropout multiplies pooled spikes at the offsets `out` with: 0 or `rescale`, the same at every timestep."""
    h = _mixed(out.to(tl.uint32) ^ key0.to(tl.uint32))
    h = _mixed(h + key1.to(tl.uint32))
    return tl.where((h >> 8).to(tl.int32) >= limit, rescale, 0.0)


@triton.jit
def _shared(values, P: tl.constexpr):
    """`values` / (P * P), rounded as PyTorch's average pooling does. By a power of two a product is as exact, and faster."""
    return values * (1 / (P * P)) if P & (P - 1) == 0 else tl.div_rn(values, tl.full(values.shape, P * P, tl.float32))


@triton.jit
def _scaling(table, table2, TWO: tl.constexpr, C: tl.constexpr, B: tl.constexpr):
    """Scale and shift of either branch; without a second one, those of the first."""
    scale, shift = _row(table, 0, C, B), _row(table, 1, C, B)
    if TWO:
        return scale, shift, _row(table2, 0, C, B), _row(table2, 1, C, B)
    else:  # noqa: RET505 - a branch that is chosen when it is compiled
        return scale, shift, scale, shift


@triton.jit
def _current(x, y, at, there, scale, shift, scale2, shift2, TWO: tl.constexpr):
    """fp32 [R, B]: the current of one timestep, of both branches if there are two."""
    scaled = tl.load(x + at, mask=there, other=0.0).to(tl.float32) * scale + shift
    if TWO:
        scaled += tl.load(y + at, mask=there, other=0.0).to(tl.float32) * scale2 + shift2
    return scaled


@triton.jit
def _put(out, to, whole, spikes, kept, DROPPED: tl.constexpr):
    """Keep the pooled spikes of one timestep, or what dropout leaves of them."""
    if DROPPED:
        spikes = spikes * kept
    tl.store(out + to, spikes.to(out.dtype.element_ty), mask=whole)


@triton.jit(do_not_specialize=_VARYING)
def forward_kernel(
    x, table, y, table2, out, N, H, W, rows, columns, decay, threshold, key0, key1, limit, rescale,
    C: tl.constexpr, T: tl.constexpr, P: tl.constexpr, REPEATED: tl.constexpr, TWO: tl.constexpr, DROPPED: tl.constexpr,
    UNROLL: tl.constexpr, COUNT: tl.constexpr, BITS: tl.constexpr, AT_ONCE: tl.constexpr, R: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Windows are counted in COUNT, BITS a timestep, so AT_ONCE timesteps; of more, what went before is computed anew."""
    first = _tile(C, B) * R
    to, whole = _pooled(first, N, H, W, rows, columns, C, P, R, B)
    places, pooled = tl.cast(N, tl.int64) * H * W * C, tl.cast(N, tl.int64) * (H // P) * (W // P) * C
    kept = rescale
    if DROPPED:
        kept = _kept(to, key0, key1, limit, rescale)
    scale, shift, scale2, shift2 = _scaling(table, table2, TWO, C, B)
    for begin in tl.static_range(0, T, AT_ONCE):
        end = begin + AT_ONCE if begin + AT_ONCE < T else T
        counts = tl.zeros((R, B), COUNT)
        for k in tl.range(0, P * P):
            at, there = _pixel(first, k, N, H, W, rows, columns, C, P, R, B)
            there = there & whole
            if REPEATED:
                drive = _current(x, y, at, there, scale, shift, scale2, shift2, TWO)
            u = tl.zeros((R, B), tl.float32)
            for t in tl.range(0, end, loop_unroll_factor=UNROLL):
                if not REPEATED:
                    drive = _current(x, y, at + t * places, there, scale, shift, scale2, shift2, TWO)
                u = u * decay + drive
                fired = u >= threshold
                u = tl.where(fired, 0.0, u)
                if P == 1:
                    _put(out, to + t * pooled, whole, tl.where(fired, 1.0, 0.0), kept, DROPPED)
                else:
                    counted = tl.where(t >= begin, fired, False).to(COUNT)
                    counts += counted << tl.cast(BITS * tl.maximum(t - begin, 0), COUNT)
        if P > 1:
            for t in tl.range(begin, end, loop_unroll_factor=UNROLL):
                count = (counts >> tl.cast(BITS * (t - begin), COUNT)) & ((1 << BITS) - 1)
                _put(out, to + t * pooled, whole, _shared(count.to(tl.float32), P), kept, DROPPED)


@triton.jit
def _codes(
    x, table, y, table2, at, there, places, decay, threshold, window,
    C: tl.constexpr, T: tl.constexpr, REPEATED: tl.constexpr, TWO: tl.constexpr,
    UNROLL: tl.constexpr, CODE: tl.constexpr, R: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Of every neuron, at bit 2 * t whether it fired at t, at bit 2 * t + 1 whether its potential was within the window."""
    scale, shift, scale2, shift2 = _scaling(table, table2, TWO, C, B)
    if REPEATED:
        drive = _current(x, y, at, there, scale, shift, scale2, shift2, TWO)
    u = tl.zeros((R, B), tl.float32)
    codes = tl.zeros((R, B), CODE)
    for t in tl.range(0, T, loop_unroll_factor=UNROLL):
        if not REPEATED:
            drive = _current(x, y, at + t * places, there, scale, shift, scale2, shift2, TWO)
        u = u * decay + drive
        fired = u >= threshold
        code = fired.to(CODE) | (tl.abs(u - threshold) <= window).to(CODE) << 1
        codes |= code << tl.cast(2 * t, CODE)
        u = tl.where(fired, 0.0, u)
    return codes


@triton.jit
def _outward(g, to, whole, kept, P: tl.constexpr, DROPPED: tl.constexpr):
    """fp32 [R, B]: the gradient of every pixel's spike, from that of the pooled spikes."""
    outward = tl.load(g + to, mask=whole, other=0.0).to(tl.float32)
    if DROPPED:
        outward = outward * kept
    if P > 1:
        outward = _shared(outward, P)
    return outward


@triton.jit
def _before(code, outward, later, decay, height):
    """The gradient of a timestep's current, and of its potential: from the spike's, and from the potential's one later."""
    return tl.where((code & 2) != 0, outward * height, 0.0) + tl.where((code & 1) != 0, 0.0, later * decay)


@triton.jit
def _normalised(x, at, there, mean, invstd):
    return (tl.load(x + at, mask=there, other=0.0).to(tl.float32) - mean) * invstd


@triton.jit(do_not_specialize=_VARYING)
def sums_kernel(
    x, table, y, table2, g, parts, N, H, W, rows, columns, each, decay, threshold, window, height, key0, key1, limit, rescale,
    C: tl.constexpr, T: tl.constexpr, P: tl.constexpr, REPEATED: tl.constexpr, TWO: tl.constexpr, NORM: tl.constexpr,
    NORM2: tl.constexpr, DROPPED: tl.constexpr, UNROLL: tl.constexpr, CODE: tl.constexpr, R: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Of this program's `each` tiles, by channel: the sums of dL/dI, and of dL/dI times either branch's normalised input."""
    places, pooled = tl.cast(N, tl.int64) * H * W * C, tl.cast(N, tl.int64) * (H // P) * (W // P) * C
    if NORM:
        mean, invstd = _row(table, 2, C, B), _row(table, 3, C, B)
    if NORM2:
        mean2, invstd2 = _row(table2, 2, C, B), _row(table2, 3, C, B)
    total = tl.zeros((R, B), tl.float32)
    product = tl.zeros((R, B), tl.float32)
    product2 = tl.zeros((R, B), tl.float32)
    tile = 0
    # A `for` over a number that is no constant fails in the interpreter of Triton 3.6 with NumPy 2.4.
    while tile < each:
        first = (_tile(C, B) * each + tile) * R
        to, whole = _pooled(first, N, H, W, rows, columns, C, P, R, B)
        kept = rescale
        if DROPPED:
            kept = _kept(to, key0, key1, limit, rescale)
        for k in tl.range(0, P * P):
            at, there = _pixel(first, k, N, H, W, rows, columns, C, P, R, B)
            there = there & whole
            codes = _codes(
                x,
                table,
                y,
                table2,
                at,
                there,
                places,
                decay,
                threshold,
                window,
                C,
                T,
                REPEATED,
                TWO,
                UNROLL,
                CODE,
                R,
                B,
            )
            later = tl.zeros((R, B), tl.float32)
            every = tl.zeros((R, B), tl.float32)
            for back in tl.range(0, T, loop_unroll_factor=UNROLL):
                t = T - 1 - back
                outward = _outward(g, to + t * pooled, whole, kept, P, DROPPED)
                later = tl.where(there, _before(codes >> tl.cast(2 * t, CODE), outward, later, decay, height), 0.0)
                every += later
                if not REPEATED:
                    if NORM:
                        product += later * _normalised(x, at + t * places, there, mean, invstd)
                    if NORM2:
                        product2 += later * _normalised(y, at + t * places, there, mean2, invstd2)
            total += every
            if REPEATED and NORM:
                product += every * _normalised(x, at, there, mean, invstd)
        tile += 1
    c = _channels(C, B)
    row = parts + _tile(C, B).to(tl.int64) * 3 * C
    tl.store(row + c, tl.sum(total, 0), mask=c < C)
    tl.store(row + C + c, tl.sum(product, 0), mask=c < C)
    tl.store(row + 2 * C + c, tl.sum(product2, 0), mask=c < C)


@triton.jit
def _through_norm(grad, normalised, scale, average, product):
    """The gradient of a batch norm's input; `average` is that of its output's gradient, `product` that of its products."""
    return scale * (grad - average - normalised * product)


@triton.jit(do_not_specialize=_VARYING)
def gradient_kernel(
    x, table, y, table2, g, means, gx, gy, N, H, W, rows, columns, decay, threshold, window, height, key0, key1, limit, rescale,
    C: tl.constexpr, T: tl.constexpr, P: tl.constexpr, REPEATED: tl.constexpr, TWO: tl.constexpr, NORM: tl.constexpr,
    NORM2: tl.constexpr, DROPPED: tl.constexpr, UNROLL: tl.constexpr, CODE: tl.constexpr, R: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Here windows that are not whole count too: batch norm has every pixel depend on all others."""
    first = _tile(C, B) * R
    to, whole = _pooled(first, N, H, W, rows, columns, C, P, R, B)
    places, pooled = tl.cast(N, tl.int64) * H * W * C, tl.cast(N, tl.int64) * (H // P) * (W // P) * C
    kept = rescale
    if DROPPED:
        kept = _kept(to, key0, key1, limit, rescale)
    if NORM:
        scale, mean, invstd = _row(table, 0, C, B), _row(table, 2, C, B), _row(table, 3, C, B)
        average, product = _row(means, 0, C, B), _row(means, 1, C, B)
    if NORM2:
        scale2, mean2, invstd2 = _row(table2, 0, C, B), _row(table2, 2, C, B), _row(table2, 3, C, B)
        average2, product2 = _row(means, 0, C, B), _row(means, 2, C, B)
    for k in tl.range(0, P * P):
        at, there = _pixel(first, k, N, H, W, rows, columns, C, P, R, B)
        codes = _codes(
            x, table, y, table2, at, there, places, decay, threshold, window, C, T, REPEATED, TWO, UNROLL, CODE, R, B
        )
        later = tl.zeros((R, B), tl.float32)
        every = tl.zeros((R, B), tl.float32)
        for back in tl.range(0, T, loop_unroll_factor=UNROLL):
            t = T - 1 - back
            outward = _outward(g, to + t * pooled, whole, kept, P, DROPPED)
            later = _before(codes >> tl.cast(2 * t, CODE), outward, later, decay, height)
            if REPEATED:
                every += later
            else:
                grad = later
                if NORM:
                    normalised = _normalised(x, at + t * places, there, mean, invstd)
                    grad = _through_norm(later, normalised, scale, average, product)
                tl.store(gx + at + t * places, grad.to(gx.dtype.element_ty), mask=there)
                if TWO:
                    grad = later
                    if NORM2:
                        normalised = _normalised(y, at + t * places, there, mean2, invstd2)
                        grad = _through_norm(later, normalised, scale2, average2, product2)
                    tl.store(gy + at + t * places, grad.to(gy.dtype.element_ty), mask=there)
        if REPEATED:
            if NORM:
                every = _through_norm(every, _normalised(x, at, there, mean, invstd), scale, average, product)
            tl.store(gx + at, every.to(gx.dtype.element_ty), mask=there)


@triton.jit
def table_kernel(mean, var, weight, bias, out, eps, C: tl.constexpr, B: tl.constexpr):
    c = tl.program_id(0) * B + tl.arange(0, B)
    there = c < C
    average = tl.load(mean + c, mask=there, other=0.0)
    invstd = tl.div_rn(tl.full((B,), 1.0, tl.float32), tl.sqrt_rn(tl.load(var + c, mask=there, other=1.0) + eps))
    scale = tl.load(weight + c, mask=there, other=0.0) * invstd
    tl.store(out + c, scale, mask=there)
    tl.store(out + C + c, tl.load(bias + c, mask=there, other=0.0) - average * scale, mask=there)
    tl.store(out + 2 * C + c, average, mask=there)
    tl.store(out + 3 * C + c, invstd, mask=there)
