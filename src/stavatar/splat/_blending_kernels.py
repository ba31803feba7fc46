"""Numba kernels of the cpu backend: sorting Gaussians into tiles, blending them, and the way back.

The image is cut into tiles of 16 x 16 pixels, each with its list of Gaussians from front to back. A tile is worked
off Gaussian by Gaussian, row by row, 16 pixels at once: the inner loops have a fixed length, no branches (choices
instead) and unsigned indices into one flat scratch array, because only so does the compiler turn them into vector
instructions. Each (Gaussian, tile) pair owns a slot for its sums, which are added up afterwards in a fixed order: no
atomics, and the result does not depend on the number of threads.

The sign of a pixel's transmittance tells whether it still takes part: a pixel that is finished, or that lies outside
the image, keeps its transmittance with a minus sign, so that every later weight comes out as zero.

Layouts: `splats` [M, 9 + D] rows (x, y, conic xx / 2, conic xy, conic yy / 2, opacity, RGB, extra) by rising depth;
`entries` [P, 2] pairs (row of `splats`, slot), grouped by tile: those of tile t are entries[starts[t]:starts[t + 1]].
The slots of row m are slots[m]:slots[m + 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import prange

from stavatar.jit import fma, kernel
from stavatar.splat.conventions import ALPHA_LEAST, ALPHA_MOST, TRANSMITTANCE_LEAST

TILE = 16
_f = np.float32
_u = np.uint64
_MANY = 8
"""Number of further channels from which on they are kept pixel by pixel."""

_LEAST, _MOST, _END = _f(ALPHA_LEAST), _f(ALPHA_MOST), _f(TRANSMITTANCE_LEAST)


@kernel(inline=True)
def _exp_negative(x):  # type: ignore[no-untyped-def]
    """exp(-x) for 0 <= x <= 6 with a relative error below 3e-6: a Taylor polynomial of -x / 16, squared four times."""
    t = x * _f(-1 / 16)
    p = fma(t, _f(1 / 720), _f(1 / 120))
    p = fma(t, p, _f(1 / 24))
    p = fma(t, p, _f(1 / 6))
    p = fma(t, p, _f(1 / 2))
    p = fma(t, p, _f(1))
    p = fma(t, p, _f(1))
    p = p * p
    p = p * p
    p = p * p
    return p * p


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
def lay_out(order, means2d, conics, opacities, colors, extra, width, height):  # type: ignore[no-untyped-def]
    """What blending needs of the Gaussians in the given order: (splats, rows, box).

    rows [M, 2] are the image rows that each Gaussian reaches, box [M, 4] its tiles: left, right, top, bottom.
    """
    count = order.shape[0]
    splats = np.empty((count, 9 + extra.shape[1]), np.float32)
    rows, box = np.zeros((count, 2), np.int32), np.zeros((count, 4), np.int32)
    for m in prange(count):
        i = order[m]
        x, y, opacity = float(means2d[i, 0]), float(means2d[i, 1]), float(opacities[i])
        a, b, c = float(conics[i, 0]), float(conics[i, 1]), float(conics[i, 2])
        splats[m, 0], splats[m, 1] = means2d[i, 0], means2d[i, 1]
        splats[m, 2], splats[m, 3], splats[m, 4] = 0.5 * a, b, 0.5 * c
        splats[m, 5] = opacities[i]
        for k in range(3):
            splats[m, 6 + k] = colors[i, k]
        for k in range(extra.shape[1]):
            splats[m, 9 + k] = extra[i, k]
        # pixels whose centre lies in the box around the ellipse alpha = ALPHA_LEAST, one thousandth of a pixel wider
        reach = 2.0 * math.log(max(opacity / ALPHA_LEAST, 1.0)) / (a * c - b * b)
        rx, ry = math.sqrt(reach * c) + 1e-3, math.sqrt(reach * a) + 1e-3
        x0, x1 = int(max(0.0, math.ceil(x - rx - 0.5))), int(min(float(width), math.floor(x + rx - 0.5) + 1.0))
        y0, y1 = int(max(0.0, math.ceil(y - ry - 0.5))), int(min(float(height), math.floor(y + ry - 0.5) + 1.0))
        if x0 < x1 and y0 < y1:
            rows[m, 0], rows[m, 1] = y0, y1
            box[m, 0], box[m, 1] = x0 // TILE, (x1 - 1) // TILE + 1
            box[m, 2], box[m, 3] = y0 // TILE, (y1 - 1) // TILE + 1
    return splats, rows, box


@kernel()
def sort_into_tiles(box, width, height):  # type: ignore[no-untyped-def]
    """Lists of Gaussians per tile: (slots, starts, entries)."""
    count = box.shape[0]
    across, down = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    slots, starts = np.empty(count + 1, np.int32), np.zeros(across * down + 1, np.int32)
    total = 0
    for m in range(count):
        slots[m] = total
        left, right, top, bottom = box[m, 0], box[m, 1], box[m, 2], box[m, 3]
        for ty in range(top, bottom):
            for tx in range(left, right):
                starts[ty * across + tx + 1] += 1
        total += (right - left) * (bottom - top)
    slots[count] = total
    for t in range(across * down):
        starts[t + 1] += starts[t]
    entries = np.empty((total, 2), np.int32)
    fill = starts.copy()
    for m in range(count):
        slot = slots[m]
        for ty in range(box[m, 2], box[m, 3]):
            for tx in range(box[m, 0], box[m, 1]):
                t = ty * across + tx
                entries[fill[t], 0], entries[fill[t], 1] = m, slot
                fill[t] += 1
                slot += 1
    return slots, starts, entries


def _tile_blender(counted: bool) -> Callable[..., None]:
    """The kernel that blends one tile, compiled with or without statistics.

    A fixed choice inside the row loop costs nothing, and that loop alone is long enough to be vectorised as a whole.
    """

    @kernel()
    def blend_tile(first, last, left, top, splats, rows, entries, more, scratch, wide, lanes, sums):  # type: ignore[no-untyped-def]
        """scratch holds for each row, 16 values each: transmittance, red, green, blue, weight of the current Gaussian,
        and `more` further channels. Where `wide` is not empty those lie there instead, pixel by pixel, so that pixels
        which a Gaussian does not reach cost nothing. With statistics `sums` [P, 2] receives (pixels, weight) of each
        slot; `lanes` is scratch of 2 * 16.
        """
        beside = more if wide.shape[0] == 0 else 0
        step = (5 + beside) * TILE
        pixel_x, pixel_y = _f(left) + _f(0.5), _f(top) + _f(0.5)
        for e in range(first, last):
            m = entries[e, 0]
            mean_x, mean_y, half_a, b, half_c = splats[m, 0], splats[m, 1], splats[m, 2], splats[m, 3], splats[m, 4]
            opacity, red, green, blue = splats[m, 5], splats[m, 6], splats[m, 7], splats[m, 8]
            offset_x = pixel_x - mean_x
            if counted:
                for j in range(2 * TILE):
                    lanes[_u(j)] = _f(0)
            for y in range(max(rows[m, 0] - top, 0), min(rows[m, 1] - top, TILE)):
                dy = _f(y) + pixel_y - mean_y
                slope, constant = b * dy, half_c * dy * dy
                base = _u(y * step)
                for x in range(TILE):
                    lane = _u(x)
                    at = base + lane
                    dx = _f(x) + offset_x
                    sigma = fma(dx, fma(half_a, dx, slope), constant)
                    before = scratch[at]
                    alpha = min(opacity * _exp_negative(min(sigma, _f(6))), _MOST)
                    alpha = alpha if (alpha >= _LEAST) & (sigma >= _f(0)) else _f(0)
                    weight = alpha * before
                    after = before - weight
                    live = after > _END
                    weight = weight if live else _f(0)
                    scratch[at] = after if live else -abs(before)
                    scratch[at + _u(TILE)] = fma(weight, red, scratch[at + _u(TILE)])
                    scratch[at + _u(2 * TILE)] = fma(weight, green, scratch[at + _u(2 * TILE)])
                    scratch[at + _u(3 * TILE)] = fma(weight, blue, scratch[at + _u(3 * TILE)])
                    scratch[at + _u(4 * TILE)] = weight
                    if counted:
                        lanes[lane] += _f(weight > _f(0))
                        lanes[_u(TILE) + lane] += weight
                for k in range(beside):
                    value = splats[m, 9 + k]
                    for x in range(TILE):
                        at = base + _u((5 + k) * TILE) + _u(x)
                        scratch[at] = fma(scratch[base + _u(4 * TILE) + _u(x)], value, scratch[at])
                if beside < more:
                    for x in range(TILE):
                        weight = scratch[base + _u(4 * TILE) + _u(x)]
                        if weight > _f(0):
                            at = _u((y * TILE + x) * more)
                            for k in range(more):
                                wide[at + _u(k)] = fma(weight, splats[m, _u(9) + _u(k)], wide[at + _u(k)])
            if counted:
                pixels, total = _f(0), _f(0)
                for x in range(TILE):
                    pixels += lanes[_u(x)]
                    total += lanes[_u(TILE) + _u(x)]
                sums[entries[e, 1], 0] = pixels
                sums[entries[e, 1], 1] = total

    return blend_tile


_blend_tile = _tile_blender(counted=False)
_blend_tile_counting = _tile_blender(counted=True)


@kernel(parallel=True)
def blend(  # type: ignore[no-untyped-def]
    splats, rows, starts, entries, tiles, chunks, background, image, alpha, extra, sums
):
    """Blend all tiles into image [H, W, 3], alpha [H, W] and extra [H, W, D].

    `sums` [P, 2] receives the pixels and the weight of each slot, unless it is empty.
    `tiles` lists the tiles by falling load; worker c of `chunks` takes every `chunks`-th, which balances them.
    """
    height, width, more = extra.shape
    across = (width + TILE - 1) // TILE
    beside = more if more < _MANY else 0
    step = (5 + beside) * TILE
    for chunk in prange(chunks):
        scratch = np.empty(TILE * step, np.float32)
        wide = np.empty((more - beside) * TILE * TILE, np.float32)
        lanes = np.empty(2 * TILE, np.float32)
        for n in range(chunk, tiles.shape[0], chunks):
            t = tiles[n]
            left, top = (t % across) * TILE, (t // across) * TILE
            tile_width, tile_height = min(TILE, width - left), min(TILE, height - top)
            scratch[:] = _f(0)
            wide[:] = _f(0)
            for y in range(TILE):
                for x in range(TILE):
                    scratch[y * step + x] = _f(1) if (x < tile_width and y < tile_height) else _f(-1)
            first, last = starts[t], starts[t + 1]
            if sums.shape[0] > 0:
                _blend_tile_counting(first, last, left, top, splats, rows, entries, more, scratch, wide, lanes, sums)
            else:
                _blend_tile(first, last, left, top, splats, rows, entries, more, scratch, wide, lanes, sums)
            for y in range(tile_height):
                for x in range(tile_width):
                    at = y * step + x
                    left_over = abs(scratch[at])
                    alpha[top + y, left + x] = _f(1) - left_over
                    for k in range(3):
                        image[top + y, left + x, k] = scratch[at + (1 + k) * TILE] + left_over * background[k]
                    for k in range(beside):
                        extra[top + y, left + x, k] = scratch[at + (5 + k) * TILE]
                    for k in range(more - beside):
                        extra[top + y, left + x, k] = wide[(y * TILE + x) * more + k]


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


@kernel()
def _blend_tile_backward(first, last, left, top, splats, rows, entries, more, scratch, lanes, slot_sums):  # type: ignore[no-untyped-def]
    """Gradient sums of one tile's slots.

    scratch holds for each row, 16 values each: transmittance; what the Gaussians still to come add to the loss to
    first order (the scalar product of the pixel's gradient with their blended channels); the gradients of red, green
    and blue; what one unit of weight of the current Gaussian adds through alpha and the extra channels; its weight;
    the gradient of alpha; and the gradients of `more` further channels. `lanes` is scratch of (6 + more) * 16.
    """
    step = (8 + more) * TILE
    pixel_x, pixel_y = _f(left) + _f(0.5), _f(top) + _f(0.5)
    for e in range(first, last):
        m, slot = entries[e, 0], entries[e, 1]
        mean_x, mean_y, half_a, b, half_c = splats[m, 0], splats[m, 1], splats[m, 2], splats[m, 3], splats[m, 4]
        opacity, red, green, blue = splats[m, 5], splats[m, 6], splats[m, 7], splats[m, 8]
        offset_x = pixel_x - mean_x
        for j in range((6 + more) * TILE):
            lanes[_u(j)] = _f(0)
        for y in range(max(rows[m, 0] - top, 0), min(rows[m, 1] - top, TILE)):
            dy = _f(y) + pixel_y - mean_y
            slope, constant, dy_square = b * dy, half_c * dy * dy, dy * dy
            base = _u(y * step)
            if more > 0:
                for x in range(TILE):
                    scratch[base + _u(5 * TILE) + _u(x)] = scratch[base + _u(7 * TILE) + _u(x)]
                for k in range(more):
                    value = splats[m, 9 + k]
                    for x in range(TILE):
                        at = base + _u(5 * TILE) + _u(x)
                        scratch[at] = fma(scratch[base + _u((8 + k) * TILE) + _u(x)], value, scratch[at])
            for x in range(TILE):
                lane = _u(x)
                at = base + lane
                dx = _f(x) + offset_x
                sigma = fma(dx, fma(half_a, dx, slope), constant)
                before = scratch[at]
                raw = opacity * _exp_negative(min(sigma, _f(6)))
                alpha = min(raw, _MOST)
                alpha = alpha if (alpha >= _LEAST) & (sigma >= _f(0)) else _f(0)
                after = fma(-alpha, before, before)
                live = after > _END
                alpha = alpha if live else _f(0)
                scratch[at] = after if live else -abs(before)
                weight = alpha * before
                d_red, d_green = scratch[at + _u(2 * TILE)], scratch[at + _u(3 * TILE)]
                d_blue = scratch[at + _u(4 * TILE)]
                value = fma(d_red, red, fma(d_green, green, fma(d_blue, blue, scratch[at + _u(5 * TILE)])))
                behind = fma(-weight, value, scratch[at + _u(TILE)])
                scratch[at + _u(TILE)] = behind
                scratch[at + _u(6 * TILE)] = weight
                d_alpha = before * value - behind / (_f(1) - alpha)
                d_sigma = -d_alpha * alpha if raw <= _MOST else _f(0)
                lanes[lane] += d_sigma
                lanes[_u(TILE) + lane] = fma(d_sigma, dy, lanes[_u(TILE) + lane])
                lanes[_u(2 * TILE) + lane] = fma(d_sigma, dy_square, lanes[_u(2 * TILE) + lane])
                lanes[_u(3 * TILE) + lane] = fma(weight, d_red, lanes[_u(3 * TILE) + lane])
                lanes[_u(4 * TILE) + lane] = fma(weight, d_green, lanes[_u(4 * TILE) + lane])
                lanes[_u(5 * TILE) + lane] = fma(weight, d_blue, lanes[_u(5 * TILE) + lane])
            for k in range(more):
                for x in range(TILE):
                    weight = scratch[base + _u(6 * TILE) + _u(x)]
                    at = _u((6 + k) * TILE) + _u(x)
                    lanes[at] = fma(weight, scratch[base + _u((8 + k) * TILE) + _u(x)], lanes[at])
        # moments of d_sigma: 1, x, x², y, xy, y²
        s, sx, sxx, sy, sxy, syy = _f(0), _f(0), _f(0), _f(0), _f(0), _f(0)
        d_red, d_green, d_blue = _f(0), _f(0), _f(0)
        for x in range(TILE):
            lane = _u(x)
            dx = _f(x) + offset_x
            d_sigma, d_sigma_y = lanes[lane], lanes[_u(TILE) + lane]
            d_sigma_x = d_sigma * dx
            s += d_sigma
            sx += d_sigma_x
            sxx = fma(d_sigma_x, dx, sxx)
            sy += d_sigma_y
            sxy = fma(d_sigma_y, dx, sxy)
            syy += lanes[_u(2 * TILE) + lane]
            d_red += lanes[_u(3 * TILE) + lane]
            d_green += lanes[_u(4 * TILE) + lane]
            d_blue += lanes[_u(5 * TILE) + lane]
        slot_sums[slot, 0], slot_sums[slot, 1], slot_sums[slot, 2] = s, sx, sxx
        slot_sums[slot, 3], slot_sums[slot, 4], slot_sums[slot, 5] = sy, sxy, syy
        slot_sums[slot, 6], slot_sums[slot, 7], slot_sums[slot, 8] = d_red, d_green, d_blue
        for k in range(more):
            total = _f(0)
            for x in range(TILE):
                total += lanes[_u((6 + k) * TILE) + _u(x)]
            slot_sums[slot, 9 + k] = total


@kernel(parallel=True)
def blend_backward(  # type: ignore[no-untyped-def]
    splats, rows, starts, entries, tiles, chunks, background, image, alpha, extra, d_image, d_alpha, d_extra, slot_sums
):
    """Fill slot_sums [P, 9 + D] from the results of `blend` and the gradients of image, alpha and extra."""
    height, width, more = extra.shape
    across = (width + TILE - 1) // TILE
    step = (8 + more) * TILE
    for chunk in prange(chunks):
        scratch = np.empty(TILE * step, np.float32)
        lanes = np.empty((6 + more) * TILE, np.float32)
        for n in range(chunk, tiles.shape[0], chunks):
            t = tiles[n]
            left, top = (t % across) * TILE, (t // across) * TILE
            tile_width, tile_height = min(TILE, width - left), min(TILE, height - top)
            scratch[:] = _f(0)
            for y in range(TILE):
                for x in range(TILE):
                    scratch[y * step + x] = _f(-1)
            for y in range(tile_height):
                for x in range(tile_width):
                    at, py, px = y * step + x, top + y, left + x
                    # image = blended + (1 - alpha) * background: alpha acts through the background too
                    d_cover = d_alpha[py, px]
                    remainder = d_cover * alpha[py, px]
                    for k in range(3):
                        gradient = d_image[py, px, k]
                        d_cover -= gradient * background[k]
                        remainder += gradient * (image[py, px, k] - background[k])
                        scratch[at + (2 + k) * TILE] = gradient
                    for k in range(more):
                        gradient = d_extra[py, px, k]
                        remainder += gradient * extra[py, px, k]
                        scratch[at + (8 + k) * TILE] = gradient
                    scratch[at] = _f(1)
                    scratch[at + TILE] = remainder
                    scratch[at + 5 * TILE] = d_cover
                    scratch[at + 7 * TILE] = d_cover
            _blend_tile_backward(
                starts[t], starts[t + 1], left, top, splats, rows, entries, more, scratch, lanes, slot_sums
            )


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
