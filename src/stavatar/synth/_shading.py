"""Light and colour of every pixel: four samples each, shaded in linear light, averaged and turned to sRGB."""

from __future__ import annotations

import numba
import numpy as np

SKIN, EYE, HAIR, MOUTH, INSIDE = 0, 1, 2, 3, 4
"""How a face answers to light. MOUTH: inside of the mouth and teeth, which light reaches from the front only. INSIDE:
the back of the skin, seen through gaps between the parts of the mouth; dark."""
_DARK = np.array([0.016, 0.006, 0.005], np.float32)
_FOLD_DIM = np.array([0.42, 0.55, 0.58], np.float32)  # how much of each colour the bottom of a wrinkle loses
_FLUSH = np.array([0.02, 0.15, 0.12], np.float32)  # how much of each colour skin full of blood swallows

SUPERSAMPLE = 2

# Lights are fixed in the world. Directions point towards the light; colours are linear.
_KEY = np.array([-0.45, 0.55, 0.75])
_FILL = np.array([0.85, 0.10, 0.55])
_RIM = np.array([0.55, 0.60, -0.60])
LIGHTS = np.stack([light / np.linalg.norm(light) for light in (_KEY, _FILL, _RIM)])
LIGHT_COLOURS = np.array([[1.08, 1.00, 0.90], [0.30, 0.34, 0.40], [0.40, 0.40, 0.42]])
SKY, GROUND = np.array([0.34, 0.36, 0.40]), np.array([0.20, 0.18, 0.17])

GAMMA = (np.linspace(0, 1, 4096) ** (2 / 2.2)).astype(np.float32)
"""Linear light -> sRGB (a plain power of 1 / 2.2), tabulated over the square root of the light."""

IRIS_RADIUS = 0.0059  # metres
_PUPIL = 0.40  # of the iris


@numba.njit(cache=True)
def vertex_normals(vertices, faces):  # type: ignore[no-untyped-def]
    """Area-weighted unit normals [V, 3] of a mesh."""
    out = np.zeros(vertices.shape, np.float32)
    for f in range(len(faces)):
        a, b, c = faces[f]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for v in (a, b, c):
            out[v, 0] += nx
            out[v, 1] += ny
            out[v, 2] += nz
    for v in range(len(out)):
        length = np.sqrt(out[v, 0] ** 2 + out[v, 1] ** 2 + out[v, 2] ** 2)
        if length > 0:
            out[v] /= length
    return out


@numba.njit(cache=True)
def _sample(texture, u, v):  # type: ignore[no-untyped-def]
    """Bilinear read; u repeats, v is clamped and grows upwards."""
    height, width = texture.shape[:2]
    x, y = u * width - 0.5, (1 - v) * height - 0.5
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    fx, fy = np.float32(x - x0), np.float32(y - y0)
    x0, x1 = x0 % width, (x0 + 1) % width
    y1 = min(max(y0 + 1, 0), height - 1)
    y0 = min(max(y0, 0), height - 1)
    a, b, c, d = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    return (
        a * texture[y0, x0, 0] + b * texture[y0, x1, 0] + c * texture[y1, x0, 0] + d * texture[y1, x1, 0],
        a * texture[y0, x0, 1] + b * texture[y0, x1, 1] + c * texture[y1, x0, 1] + d * texture[y1, x1, 1],
        a * texture[y0, x0, 2] + b * texture[y0, x1, 2] + c * texture[y1, x0, 2] + d * texture[y1, x1, 2],
        a * texture[y0, x0, 3] + b * texture[y0, x1, 3] + c * texture[y1, x0, 3] + d * texture[y1, x1, 3],
    )


@numba.njit(cache=True)
def _ramp(low, high, value):  # type: ignore[no-untyped-def]
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@numba.njit(cache=True)
def _eye_colour(dx, dy, dz, iris_sine, iris):  # type: ignore[no-untyped-def]
    """Albedo of the eyeball in the direction (dx, dy, dz) of its own frame: pupil, iris with fibres, limbus, sclera."""
    sine = np.sqrt(dx * dx + dy * dy)
    if dz < 0:
        sine = 2.0
    r = sine / iris_sine
    angle = np.arctan2(dy, dx)
    fibres = 0.82 + 0.18 * np.sin(23 * angle + 2 * np.sin(7 * angle)) + 0.25 * (1 - r)
    limbus = 1 - 0.75 * _ramp(0.78, 1.0, r)
    pupil = 1 - _ramp(_PUPIL - 0.05, _PUPIL + 0.05, r)
    white = _ramp(0.95, 1.08, r)
    veins = 0.03 * np.sin(9 * angle + 5 * sine) * _ramp(1.2, 2.2, r)
    scale = fibres * limbus * (1 - pupil)
    return (
        iris[0] * scale * (1 - white) + (0.46 + veins) * white,
        iris[1] * scale * (1 - white) + (0.42 - veins) * white,
        iris[2] * scale * (1 - white) + (0.40 - veins) * white,
    )


@numba.njit(cache=True, parallel=True, error_model="numpy")
def shade(  # type: ignore[no-untyped-def]
    face, barycentric, faces, material, vertices, normals, uv, eye_directions, iris_sine, iris, skin_texture,
    hair_texture, folds, turn, eye_position, lights, light_colours, sky, ground, gamma, background, noise, over_white,
    out, coverage,
):  # fmt: skip
    """Shade fragments [2H, 2W] into the uint8 sRGB image `out` [H, W, 3].

    `faces` [F, 3], `material` [F], `uv` [F, 3, 2] and `eye_directions` [F, 3, 3] (position on the eyeball's unit sphere
    in the eyeball's own frame; read where the material is EYE) describe the mesh; `vertices` and `normals` [V, 3] pose
    it. `folds` [S, S, 4] are the skin's wrinkles in this frame (:meth:`Wrinkles.texture`), whose slopes `turn` [3, 3]
    carries from the head's axes to the world's; 1 x 1 for a subject without any. `background` [H, W, 3] is linear.
    `gamma` is :data:`GAMMA`. `noise` [H, W, 3] is added to the sRGB values, in [0, 1].

    `coverage` [H, W] gets the share of each pixel's samples that hit the mesh. With `over_white` the background is not
    looked at: the colour of those samples alone is laid over white by that share, as mattes are applied to sRGB values.
    """
    height, width = out.shape[:2]
    samples = SUPERSAMPLE * SUPERSAMPLE
    for y in numba.prange(height):
        for x in range(width):
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            hits = 0
            for sample in range(samples):
                sy, sx = y * SUPERSAMPLE + sample // SUPERSAMPLE, x * SUPERSAMPLE + sample % SUPERSAMPLE
                f = face[sy, sx]
                if f < 0:
                    if not over_white:
                        red += background[y, x, 0]
                        green += background[y, x, 1]
                        blue += background[y, x, 2]
                    continue
                hits += 1
                kind = material[f]
                if kind == INSIDE:
                    red += _DARK[0]
                    green += _DARK[1]
                    blue += _DARK[2]
                    continue
                a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                wa, wb, wc = barycentric[sy, sx, 0], barycentric[sy, sx, 1], barycentric[sy, sx, 2]
                nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
                ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
                nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
                length = np.float32(1) / (np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-9))
                nx, ny, nz = nx * length, ny * length, nz * length
                vx = eye_position[0] - (wa * vertices[a, 0] + wb * vertices[b, 0] + wc * vertices[c, 0])
                vy = eye_position[1] - (wa * vertices[a, 1] + wb * vertices[b, 1] + wc * vertices[c, 1])
                vz = eye_position[2] - (wa * vertices[a, 2] + wb * vertices[b, 2] + wc * vertices[c, 2])
                length = np.float32(1) / np.sqrt(vx * vx + vy * vy + vz * vz)
                vx, vy, vz = vx * length, vy * length, vz * length

                wrap, power = np.float32(0.25), 22
                if kind == EYE:
                    dx = wa * eye_directions[f, 0, 0] + wb * eye_directions[f, 1, 0] + wc * eye_directions[f, 2, 0]
                    dy = wa * eye_directions[f, 0, 1] + wb * eye_directions[f, 1, 1] + wc * eye_directions[f, 2, 1]
                    dz = wa * eye_directions[f, 0, 2] + wb * eye_directions[f, 1, 2] + wc * eye_directions[f, 2, 2]
                    length = np.float32(1) / np.sqrt(dx * dx + dy * dy + dz * dz)
                    r, g, bl = _eye_colour(dx * length, dy * length, dz * length, iris_sine, iris)
                    gloss, power = np.float32(2.2), 180
                else:
                    u = wa * uv[f, 0, 0] + wb * uv[f, 1, 0] + wc * uv[f, 2, 0]
                    v = wa * uv[f, 0, 1] + wb * uv[f, 1, 1] + wc * uv[f, 2, 1]
                    if kind == HAIR:
                        r, g, bl, gloss = _sample(hair_texture, u, v)
                        wrap, power = np.float32(0.35), 14
                    else:
                        r, g, bl, gloss = _sample(skin_texture, u, v)
                    if kind == SKIN and len(folds) > 1:
                        rise_x, rise_y, dim, flush = _sample(folds, u, v)
                        if rise_x != 0 or rise_y != 0 or dim != 0 or flush != 0:
                            nx -= turn[0, 0] * rise_x + turn[0, 1] * rise_y
                            ny -= turn[1, 0] * rise_x + turn[1, 1] * rise_y
                            nz -= turn[2, 0] * rise_x + turn[2, 1] * rise_y
                            length = np.float32(1) / np.sqrt(nx * nx + ny * ny + nz * nz)
                            nx, ny, nz = nx * length, ny * length, nz * length
                            r *= (1 - _FOLD_DIM[0] * dim) * (1 - _FLUSH[0] * flush)
                            g *= (1 - _FOLD_DIM[1] * dim) * (1 - _FLUSH[1] * flush)
                            bl *= (1 - _FOLD_DIM[2] * dim) * (1 - _FLUSH[2] * flush)

                up = np.float32(0.5) * (ny + 1)
                lr = ground[0] + (sky[0] - ground[0]) * up
                lg = ground[1] + (sky[1] - ground[1]) * up
                lb = ground[2] + (sky[2] - ground[2]) * up
                shine = np.float32(0)
                for k in range(len(lights)):
                    if kind == MOUTH and lights[k, 2] < 0:
                        continue
                    cosine = nx * lights[k, 0] + ny * lights[k, 1] + nz * lights[k, 2]
                    soft = max((cosine + wrap) / (1 + wrap), np.float32(0))
                    hard = max(cosine, np.float32(0))
                    # Light that has travelled through skin comes out red at the edge of the shadow.
                    bleed = soft if kind == SKIN else np.float32(0.5) * (soft + hard)
                    lr += light_colours[k, 0] * bleed
                    lg += light_colours[k, 1] * (np.float32(0.5) * bleed + np.float32(0.5) * hard)
                    lb += light_colours[k, 2] * (np.float32(0.4) * bleed + np.float32(0.6) * hard)
                    hx, hy, hz = lights[k, 0] + vx, lights[k, 1] + vy, lights[k, 2] + vz
                    length = np.float32(1) / (np.sqrt(hx * hx + hy * hy + hz * hz) + np.float32(1e-9))
                    highlight = (nx * hx + ny * hy + nz * hz) * length
                    if highlight > np.float32(0.6) and hard > 0:  # 0.6^14 < 0.001
                        shine += light_colours[k, 1] * highlight**power
                facing = 1 - max(nx * vx + ny * vy + nz * vz, np.float32(0))
                if kind == MOUTH:
                    facing = np.float32(0)
                shine = gloss * (np.float32(0.16) * shine + np.float32(0.10) * facing**4 * up)
                if kind == HAIR:
                    red += r * lr + shine * (np.float32(0.3) + 2 * r)
                    green += g * lg + shine * (np.float32(0.3) + 2 * g)
                    blue += bl * lb + shine * (np.float32(0.3) + 2 * bl)
                else:
                    red += r * lr + shine
                    green += g * lg + shine
                    blue += bl * lb + shine
            coverage[y, x] = np.float32(hits) / samples
            share = hits if over_white else samples
            for channel in range(3):
                if share == 0:
                    out[y, x, channel] = 255
                    continue
                value = red if channel == 0 else (green if channel == 1 else blue)
                # Read from the table at the square root, which spreads the dark values.
                value = gamma[int(np.sqrt(min(value / share, np.float32(1))) * (len(gamma) - 1) + np.float32(0.5))]
                value += noise[y, x, channel]
                if over_white:
                    value = 1 - coverage[y, x] * (1 - min(max(value, np.float32(0)), np.float32(1)))
                out[y, x, channel] = np.uint8(min(max(value, np.float32(0)), np.float32(1)) * 255 + np.float32(0.5))
