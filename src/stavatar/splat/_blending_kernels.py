"""Numba kernels of the cpu backend: sorting Gaussians into tiles, blending them, and the way back.

The image is cut into tiles of 8 x 16 pixels, each with its list of Gaussians from front to back. A tile is worked off
Gaussian by Gaussian, row by row, 8 pixels at once. Rows of a tile that a Gaussian's ellipse does not reach are left
out. Each (Gaussian, tile) pair owns a slot for its sums, which are added up afterwards in a fixed order: no atomics,
and the result does not depend on the number of threads.

The sign of a pixel's transmittance tells whether it still takes part: a pixel that is finished, or that lies outside
the image, keeps its transmittance with a minus sign, so that every later weight comes out as zero.

Layouts: `splats` [M, 9 + D] rows (x, y, conic xx / 2, conic xy, conic yy / 2, opacity, RGB, extra) by rising depth;
`entries` [P, 4] rows (row of `splats`, slot, first row of pixels in the tile, last one exclusive), grouped by tile:
those of tile t are entries[starts[t]:starts[t + 1]]. The slots of row m are slots[m]:slots[m + 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import prange

from stavatar.jit import kernel
from stavatar.splat.conventions import ALPHA_LEAST, ALPHA_MOST, TRANSMITTANCE_LEAST
from stavatar.vectors import LANES, add_up, add_up_each, choose, fma, least, load, size, spread, steps, store

_SHIFT = 4
WIDE, HIGH = LANES, 1 << _SHIFT
"""Pixels of a tile: a row is one vector. Longer ones would do more in vain, as most Gaussians are narrow."""
_f = np.float32
_MANY = 8
"""Number of further channels from which on they are kept pixel by pixel."""

_STEP, _STEP_BACK = 5 * WIDE, 6 * WIDE
"""Floats of scratch for a row of a tile, forward and backward."""

_LEAST, _MOST, _END = _f(ALPHA_LEAST), _f(ALPHA_MOST), _f(TRANSMITTANCE_LEAST)
_FAR = _f(5.6)
"""Beyond it even an opaque Gaussian is fainter than ALPHA_LEAST: exp(-5.6) < 1 / 255."""


@kernel(inline=True)
def _exp_negative(x):  # type: ignore[no-untyped-def]
    """exp(-x) with a relative error below 3e-6 for 0 <= x <= _FAR, where what it is multiplied by is at most 1.

    A polynomial for exp(-x / 8), the best one of its degree with value 1 at 0, squared three times.
    """
    square = x * x
    p = fma(x, _f(-1.7960367e-7), _f(9.728591e-6))
    p = fma(square, p, fma(x, _f(-3.2427424e-4), _f(7.810934e-3)))
    p = fma(square, p, fma(x, _f(-1.2499934e-1), _f(1)))
    p = p * p
    p = p * p
    return p * p


@kernel(inline=True)
def _seen_from(splats, m, left, top):  # type: ignore[no-untyped-def]
    """Of a Gaussian in a tile: dx to the pixels of a row; what sigma has of dy², of dy and without; dy of row 0."""
    half_a, b, half_c = splats[m, 2], splats[m, 3], splats[m, 4]
    dx = steps() + (_f(left) + _f(0.5) - splats[m, 0])
    return dx, half_c, b * dx, half_a * dx * dx, _f(top) + _f(0.5) - splats[m, 1]


@kernel(inline=True)
def _cover(scratch, at, dy, half_c, slope, constant, opacity):  # type: ignore[no-untyped-def]
    """Let a Gaussian take its part of the transmittances at scratch[at : at + 8].

    Returns its weights, its alphas with and without bounds, and the mask of pixels that went on taking part.
    """
    sigma = fma(dy, fma(half_c, dy, slope), constant)
    raw = opacity * _exp_negative(sigma)
    inside = (sigma >= _f(0)) & (sigma <= _FAR) & (raw >= _LEAST)
    alpha = choose(inside, least(raw, _MOST), _f(0))
    before = load(scratch, at)
    weight = alpha * before
    after = before - weight
    live = after > _END
    store(scratch, at, choose(live, after, -size(before)))
    return choose(live, weight, _f(0)), alpha, raw, live


@kernel()
def by_depth(depths, radii):  # type: ignore[no-untyped-def]
    """Indices [M] of the drawn Gaussians by rising depth, equal depths by index.

    The bits of a positive float sort like the float; they are sorted by eleven at a time, from the lowest.
    """
    bits = depths.view(np.uint32)
    order, keys = np.empty(radii.shape[0], np.int32), np.empty(radii.shape[0], np.uint32)
    places = np.zeros((3, 2048), np.int32)
    count = 0
    for i in range(radii.shape[0]):
        if radii[i] > 0:
            key = bits[i]
            order[count], keys[count] = i, key
            count += 1
            for digit in range(3):
                places[digit, (key >> np.uint32(11 * digit)) & np.uint32(2047)] += 1
    for digit in range(3):
        place = 0
        for value in range(2048):
            place, places[digit, value] = place + places[digit, value], place
    order, keys = order[:count], keys[:count]
    sorted_order, sorted_keys = np.empty_like(order), np.empty_like(keys)
    for digit in range(3):
        for m in range(count):
            value = (keys[m] >> np.uint32(11 * digit)) & np.uint32(2047)
            place = places[digit, value]
            places[digit, value] = place + 1
            sorted_order[place], sorted_keys[place] = order[m], keys[m]
        order, sorted_order = sorted_order, order
        keys, sorted_keys = sorted_keys, keys
    return order


@kernel(parallel=True)
def lay_out(order, means2d, conics, opacities, colors, extra, width):  # type: ignore[no-untyped-def]
    """What blending needs of the Gaussians in the given order: (splats, ellipses, columns).

    ellipses [M, 4] tell where alpha may reach ALPHA_LEAST, relative to the mean: half the width, where between left and
    right the top lies, and slope and curvature of the outline y(x) = slope x ± sqrt(curvature (half² - x²)). columns
    [M, 2] are the first tile column with a pixel whose centre may lie therein, and the last, exclusive.
    """
    count = order.shape[0]
    splats = np.empty((count, 9 + extra.shape[1]), np.float32)
    ellipses, columns = np.empty((count, 4), np.float64), np.zeros((count, 2), np.int32)
    for m in prange(count):
        i = order[m]
        splats[m, 0], splats[m, 1] = means2d[i, 0], means2d[i, 1]
        splats[m, 2], splats[m, 3], splats[m, 4] = _f(0.5) * conics[i, 0], conics[i, 1], _f(0.5) * conics[i, 2]
        splats[m, 5] = opacities[i]
        for k in range(3):
            splats[m, 6 + k] = colors[i, k]
        for k in range(extra.shape[1]):
            splats[m, 9 + k] = extra[i, k]
        x, a, b, c = float(means2d[i, 0]), float(conics[i, 0]), float(conics[i, 1]), float(conics[i, 2])
        determinant = max(a * c - b * b, 1e-7 * a * c)
        reach = 2.0 * math.log(max(float(opacities[i]) / ALPHA_LEAST, 1.0))
        reach += 1e-4 + 1e-6 * reach * a * c / determinant  # further than blending's float32 can be mistaken by
        half = math.sqrt(reach * c / determinant)
        ellipses[m, 0], ellipses[m, 1] = half, -b * math.sqrt(reach / (a * determinant))
        ellipses[m, 2], ellipses[m, 3] = -b / c, determinant / (c * c)
        left, right = max(0.0, math.ceil(x - half - 0.5)), min(float(width), math.floor(x + half - 0.5) + 1.0)
        if left < right:
            columns[m, 0], columns[m, 1] = int(left) // WIDE, (int(right) - 1) // WIDE + 1
    return splats, ellipses, columns


@kernel(parallel=True)
def cut_into_strips(splats, ellipses, columns, height):  # type: ignore[no-untyped-def]
    """The rows of pixels that each Gaussian reaches in each of its tile columns: (firsts, strips).

    strips [S, 2] are the first row and the last, exclusive, or twice 0; firsts [M + 1] each Gaussian's first strip.
    """
    count = columns.shape[0]
    firsts = np.zeros(count + 1, np.int32)
    for m in range(count):
        firsts[m + 1] = firsts[m] + columns[m, 1] - columns[m, 0]
    strips = np.zeros((firsts[count], 2), np.int32)
    for m in prange(count):
        x, y = float(splats[m, 0]), float(splats[m, 1]) - 0.5
        half, top, slope, curvature = ellipses[m, 0], ellipses[m, 1], ellipses[m, 2], ellipses[m, 3]
        for s in range(firsts[m], firsts[m + 1]):
            edge = float(columns[m, 0] + s - firsts[m]) * WIDE + 0.5 - x
            left, right = min(max(edge, -half), half), min(max(edge + (WIDE - 1.0), -half), half)
            # within a strip the outline is highest where that is nearest to the top; the lowest lies opposite
            high, low = min(max(top, left), right), min(max(-top, left), right)
            upper = y + slope * high + math.sqrt(curvature * (half * half - high * high))
            lower = y + slope * low - math.sqrt(curvature * (half * half - low * low))
            first, last = max(math.ceil(lower), 0.0), min(math.floor(upper) + 1.0, float(height))
            if first < last:
                strips[s, 0], strips[s, 1] = int(first), int(last)
    return firsts, strips


@kernel(parallel=True)
def sort_into_tiles(columns, firsts, strips, chunks, width, height):  # type: ignore[no-untyped-def]
    """Lists of Gaussians per tile: (slots, starts, entries, loads), with the rows there are to do in each tile.

    Each of `chunks` workers takes a part of the Gaussians; in a tile's list the parts follow one another.
    """
    count = columns.shape[0]
    across, down = (width + WIDE - 1) // WIDE, (height + HIGH - 1) // HIGH
    slots, starts = np.empty(count + 1, np.int32), np.empty(across * down + 1, np.int32)
    places, loads = np.zeros((chunks, across * down), np.int32), np.zeros((chunks, across * down), np.int32)
    totals = np.zeros(chunks, np.int32)
    for chunk in prange(chunks):
        here, slot = places[chunk], 0
        for m in range(count * chunk // chunks, count * (chunk + 1) // chunks):
            slots[m] = slot
            for s in range(firsts[m], firsts[m + 1]):
                column = columns[m, 0] + s - firsts[m]
                for row in range(strips[s, 0] >> _SHIFT, (strips[s, 1] + HIGH - 1) >> _SHIFT):
                    here[row * across + column] += 1
                    slot += 1
        totals[chunk] = slot
    place = 0
    for t in range(across * down):
        starts[t] = place
        for chunk in range(chunks):
            place, places[chunk, t] = place + places[chunk, t], place
    starts[across * down], slots[count] = place, place
    entries = np.empty((place, 4), np.int32)
    for chunk in prange(chunks):
        here, load, before = places[chunk], loads[chunk], totals[:chunk].sum()
        for m in range(count * chunk // chunks, count * (chunk + 1) // chunks):
            slot = slots[m] + before
            slots[m] = slot
            for s in range(firsts[m], firsts[m + 1]):
                column = columns[m, 0] + s - firsts[m]
                for row in range(strips[s, 0] >> _SHIFT, (strips[s, 1] + HIGH - 1) >> _SHIFT):
                    t = row * across + column
                    first, last = max(strips[s, 0] - row * HIGH, 0), min(strips[s, 1] - row * HIGH, HIGH)
                    e = here[t]
                    entries[e, 0], entries[e, 1], entries[e, 2], entries[e, 3] = m, slot, first, last
                    here[t] = e + 1
                    load[t] += last - first
                    slot += 1
    return slots, starts, entries, loads.sum(0)


def _tile_blender(counted: bool, extended: bool) -> Callable[..., None]:
    """The kernel that blends one tile, compiled with or without statistics, with or without further channels.

    A row takes some forty instructions; even loops that never run would add as many for their counters.
    """

    @kernel()
    def blend_tile(first, last, left, top, splats, entries, more, scratch, further, wide, sums):  # type: ignore[no-untyped-def]
        """scratch holds for each row, 8 values each: transmittance, red, green, blue, weight of the current Gaussian.
        Further channels lie in `further`, 8 values of each for a row, or, where that is empty, in `wide`, pixel by
        pixel, so that pixels which a Gaussian does not reach cost nothing. With statistics `sums` [P, 2] receives
        (pixels, weight) of each slot.
        """
        beside = more if wide.shape[0] == 0 else 0
        for e in range(first, last):
            m = entries[e, 0]
            opacity, red, green, blue = splats[m, 5], splats[m, 6], splats[m, 7], splats[m, 8]
            _, half_c, slope, constant, first_dy = _seen_from(splats, m, left, top)
            pixels, weights = spread(0), spread(0)
            for y in range(entries[e, 2], entries[e, 3]):
                dy = spread(_f(y) + first_dy)
                at = y * _STEP
                weight, _, _, _ = _cover(scratch, at, dy, half_c, slope, constant, opacity)
                store(scratch, at + WIDE, fma(weight, red, load(scratch, at + WIDE)))
                store(scratch, at + 2 * WIDE, fma(weight, green, load(scratch, at + 2 * WIDE)))
                store(scratch, at + 3 * WIDE, fma(weight, blue, load(scratch, at + 3 * WIDE)))
                if counted:
                    pixels += choose(weight > _f(0), spread(1), _f(0))
                    weights += weight
                if extended:
                    for k in range(beside):
                        place = (y * more + k) * WIDE
                        store(further, place, fma(weight, splats[m, 9 + k], load(further, place)))
                    if beside < more:
                        store(scratch, at + 4 * WIDE, weight)
                        for x in range(WIDE):
                            one = scratch[at + 4 * WIDE + x]
                            if one > _f(0):
                                place = (y * WIDE + x) * more
                                for k in range(more):
                                    wide[place + k] = fma(one, splats[m, 9 + k], wide[place + k])
            if counted:
                sums[entries[e, 1], 0] = add_up(pixels)
                sums[entries[e, 1], 1] = add_up(weights)

    return blend_tile


_blend_tile = _tile_blender(counted=False, extended=False)
_blend_tile_counting = _tile_blender(counted=True, extended=False)
_blend_more = _tile_blender(counted=False, extended=True)
_blend_more_counting = _tile_blender(counted=True, extended=True)


@kernel(parallel=True)
def blend(splats, starts, entries, tiles, chunks, background, image, alpha, extra, sums):  # type: ignore[no-untyped-def]
    """Blend all tiles into image [H, W, 3], alpha [H, W] and extra [H, W, D].

    `sums` [P, 2] receives the pixels and the weight of each slot, unless it is empty.
    `tiles` lists the tiles by falling load; worker c of `chunks` takes every `chunks`-th, which balances them.
    """
    height, width, more = extra.shape
    across = (width + WIDE - 1) // WIDE
    beside = more if more < _MANY else 0
    counted = sums.shape[0] > 0
    for chunk in prange(chunks):
        scratch = np.empty(HIGH * _STEP, np.float32)
        further = np.empty(beside * HIGH * WIDE, np.float32)
        wide = np.empty((more - beside) * HIGH * WIDE, np.float32)
        for n in range(chunk, tiles.shape[0], chunks):
            t = tiles[n]
            left, top = (t % across) * WIDE, (t // across) * HIGH
            tile_width, tile_height = min(WIDE, width - left), min(HIGH, height - top)
            scratch[:] = _f(0)
            further[:] = _f(0)
            wide[:] = _f(0)
            for y in range(HIGH):
                for x in range(WIDE):
                    scratch[y * _STEP + x] = _f(1) if (x < tile_width and y < tile_height) else _f(-1)
            first, last = starts[t], starts[t + 1]
            if more == 0 and counted:
                _blend_tile_counting(first, last, left, top, splats, entries, more, scratch, further, wide, sums)
            elif more == 0:
                _blend_tile(first, last, left, top, splats, entries, more, scratch, further, wide, sums)
            elif counted:
                _blend_more_counting(first, last, left, top, splats, entries, more, scratch, further, wide, sums)
            else:
                _blend_more(first, last, left, top, splats, entries, more, scratch, further, wide, sums)
            for y in range(tile_height):
                for x in range(tile_width):
                    at = y * _STEP + x
                    left_over = abs(scratch[at])
                    alpha[top + y, left + x] = _f(1) - left_over
                    for k in range(3):
                        image[top + y, left + x, k] = scratch[at + (1 + k) * WIDE] + left_over * background[k]
                    for k in range(beside):
                        extra[top + y, left + x, k] = further[(y * more + k) * WIDE + x]
                    for k in range(more - beside):
                        extra[top + y, left + x, k] = wide[(y * WIDE + x) * more + k]


@kernel(parallel=True)
def gather_sums(order, slots, sums, pixel_counts, blending_weights):  # type: ignore[no-untyped-def]
    """Add up the slots of each Gaussian into its entries of the two zeroed outputs [N]."""
    for m in prange(order.shape[0]):
        pixels, weight = _f(0), _f(0)
        for s in range(slots[m], slots[m + 1]):
            pixels += sums[s, 0]
            weight += sums[s, 1]
        pixel_counts[order[m]] = pixels
        blending_weights[order[m]] = weight


def _tile_differentiator(extended: bool) -> Callable[..., None]:
    """The kernel for the gradients of one tile, compiled with or without further channels."""

    @kernel()
    def differentiate_tile(first, last, left, top, splats, entries, more, scratch, further, lanes, slot_sums):  # type: ignore[no-untyped-def]
        """Gradient sums of one tile's slots.

        scratch holds for each row, 8 values each: transmittance; what the Gaussians still to come add to the loss to
        first order (the scalar product of the pixel's gradient with their blended channels); the gradients of red,
        green, blue and alpha. The gradients of `more` further channels lie in `further`, 8 of each for a row; `lanes`
        is scratch of more * 8.
        """
        for e in range(first, last):
            m, slot = entries[e, 0], entries[e, 1]
            opacity, red, green, blue = splats[m, 5], splats[m, 6], splats[m, 7], splats[m, 8]
            dx, half_c, slope, constant, first_dy = _seen_from(splats, m, left, top)
            # moments of d_sigma: 1, y, y²; those with x follow from them, lane by lane
            s, sy, syy, to_red, to_green, to_blue = spread(0), spread(0), spread(0), spread(0), spread(0), spread(0)
            if extended:
                lanes[:] = _f(0)
            for y in range(entries[e, 2], entries[e, 3]):
                dy = spread(_f(y) + first_dy)
                at = y * _STEP_BACK
                weight, alpha, raw, live = _cover(scratch, at, dy, half_c, slope, constant, opacity)
                d_red, d_green = load(scratch, at + 2 * WIDE), load(scratch, at + 3 * WIDE)
                d_blue, value = load(scratch, at + 4 * WIDE), load(scratch, at + 5 * WIDE)
                if extended:
                    for k in range(more):
                        beside = load(further, (y * more + k) * WIDE)
                        value = fma(beside, splats[m, 9 + k], value)
                        store(lanes, k * WIDE, fma(weight, beside, load(lanes, k * WIDE)))
                # what the Gaussian adds here, and what is left for those behind it, which it dims
                own = weight * fma(d_red, red, fma(d_green, green, fma(d_blue, blue, value)))
                behind = load(scratch, at + WIDE) - own
                store(scratch, at + WIDE, behind)
                d_sigma = choose(live & (raw <= _MOST), fma(alpha / (_f(1) - alpha), behind, -own), _f(0))
                d_sigma_y = d_sigma * dy
                s += d_sigma
                sy += d_sigma_y
                syy = fma(d_sigma_y, dy, syy)
                to_red = fma(weight, d_red, to_red)
                to_green = fma(weight, d_green, to_green)
                to_blue = fma(weight, d_blue, to_blue)
            sx, at = s * dx, slot * (9 + more)
            store(slot_sums, at, add_up_each(s, sx, sx * dx, sy, sy * dx, syy, to_red, to_green))
            slot_sums[at + 8] = add_up(to_blue)
            if extended:
                for k in range(more):
                    slot_sums[at + 9 + k] = add_up(load(lanes, k * WIDE))

    return differentiate_tile


_differentiate_tile = _tile_differentiator(extended=False)
_differentiate_more = _tile_differentiator(extended=True)


@kernel(parallel=True)
def blend_backward(  # type: ignore[no-untyped-def]
    splats, starts, entries, tiles, chunks, background, image, alpha, extra, d_image, d_alpha, d_extra, slot_sums
):
    """Fill slot_sums [P, 9 + D] from the results of `blend` and the gradients of image, alpha and extra."""
    height, width, more = extra.shape
    across = (width + WIDE - 1) // WIDE
    flat = slot_sums.reshape(-1)
    for chunk in prange(chunks):
        scratch = np.empty(HIGH * _STEP_BACK, np.float32)
        further = np.empty(more * HIGH * WIDE, np.float32)
        lanes = np.empty(more * WIDE, np.float32)
        for n in range(chunk, tiles.shape[0], chunks):
            t = tiles[n]
            first, last = starts[t], starts[t + 1]
            if first == last:
                break  # and so are all that follow
            left, top = (t % across) * WIDE, (t // across) * HIGH
            tile_width, tile_height = min(WIDE, width - left), min(HIGH, height - top)
            scratch[:] = _f(0)
            further[:] = _f(0)
            for y in range(HIGH):
                for x in range(WIDE):
                    scratch[y * _STEP_BACK + x] = _f(-1)
            for y in range(tile_height):
                for x in range(tile_width):
                    at, py, px = y * _STEP_BACK + x, top + y, left + x
                    # image = blended + (1 - alpha) * background: alpha acts through the background too
                    d_cover = d_alpha[py, px]
                    remainder = d_cover * alpha[py, px]
                    for k in range(3):
                        gradient = d_image[py, px, k]
                        d_cover -= gradient * background[k]
                        remainder += gradient * (image[py, px, k] - background[k])
                        scratch[at + (2 + k) * WIDE] = gradient
                    for k in range(more):
                        gradient = d_extra[py, px, k]
                        remainder += gradient * extra[py, px, k]
                        further[(y * more + k) * WIDE + x] = gradient
                    scratch[at] = _f(1)
                    scratch[at + WIDE] = remainder
                    scratch[at + 5 * WIDE] = d_cover
            if more == 0:
                _differentiate_tile(first, last, left, top, splats, entries, more, scratch, further, lanes, flat)
            else:
                _differentiate_more(first, last, left, top, splats, entries, more, scratch, further, lanes, flat)


@kernel(parallel=True)
def gather_gradients(  # type: ignore[no-untyped-def]
    order, splats, slots, slot_sums, d_means2d, d_conics, d_opacities, d_colors, d_extra
):
    """Add up the slots of each Gaussian and turn the moments into gradients; the outputs [N, ...] come zeroed."""
    for m in prange(order.shape[0]):
        i = order[m]
        s, sx, sxx, sy, sxy, syy = _f(0), _f(0), _f(0), _f(0), _f(0), _f(0)
        for slot in range(slots[m], slots[m + 1]):
            s += slot_sums[slot, 0]
            sx += slot_sums[slot, 1]
            sxx += slot_sums[slot, 2]
            sy += slot_sums[slot, 3]
            sxy += slot_sums[slot, 4]
            syy += slot_sums[slot, 5]
            for k in range(3):
                d_colors[i, k] += slot_sums[slot, 6 + k]
            for k in range(d_extra.shape[1]):
                d_extra[i, k] += slot_sums[slot, 9 + k]
        half_a, b, half_c = splats[m, 2], splats[m, 3], splats[m, 4]
        d_means2d[i, 0] = -(_f(2) * half_a * sx + b * sy)
        d_means2d[i, 1] = -(b * sx + _f(2) * half_c * sy)
        d_conics[i, 0] = _f(0.5) * sxx
        d_conics[i, 1] = sxy
        d_conics[i, 2] = _f(0.5) * syy
        d_opacities[i] = -s / splats[m, 5]
