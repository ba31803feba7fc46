// Posed Gaussians as the renderer takes them: coloured for a viewpoint, sorted back to front, packed side by side.

export const FLOATS = 13; // per Gaussian: mean 3, opacity 1, covariance 6, colour 3
const BUCKETS = 1 << 16;
const C0 = 0.28209479177387814;

/**
 * Pack all Gaussians of a Poser, farthest first, into `result` [N * FLOATS].
 * `view` is world-to-camera, 16 numbers row after row.
 */
export function packSplats(poser, view, result) {
  const { means, opacities, covariances } = poser;
  const order = sortByDepth(means, view);
  const colors = shade(poser, cameraPosition(view));
  for (let i = 0; i < order.length; i++) {
    const g = order[i], o = FLOATS * i;
    result[o] = means[3 * g], result[o + 1] = means[3 * g + 1], result[o + 2] = means[3 * g + 2];
    result[o + 3] = opacities[g];
    for (let k = 0; k < 6; k++) result[o + 4 + k] = covariances[6 * g + k];
    result[o + 10] = colors[3 * g], result[o + 11] = colors[3 * g + 1], result[o + 12] = colors[3 * g + 2];
  }
}

/** Indices of the Gaussians, farthest first: a counting sort over 65536 slices of the depth range. */
export function sortByDepth(means, view) {
  const count = means.length / 3;
  const depths = new Float32Array(count);
  let near = Infinity, far = -Infinity;
  for (let g = 0; g < count; g++) {
    const depth = view[8] * means[3 * g] + view[9] * means[3 * g + 1] + view[10] * means[3 * g + 2];
    depths[g] = depth;
    near = Math.min(near, depth);
    far = Math.max(far, depth);
  }
  const slices = (BUCKETS - 1) / Math.max(far - near, 1e-9);
  const starts = new Uint32Array(BUCKETS + 1);
  const bucket = new Uint16Array(count);
  for (let g = 0; g < count; g++) {
    bucket[g] = (far - depths[g]) * slices;
    starts[bucket[g] + 1]++;
  }
  for (let b = 0; b < BUCKETS; b++) starts[b + 1] += starts[b];
  const order = new Uint32Array(count);
  for (let g = 0; g < count; g++) order[starts[bucket[g]]++] = g;
  return order;
}

/** Colours [N * 3] seen from `eye`: max(0, 0.5 + the sum of spherical harmonics). */
function shade({ count, means, sh, tensors, meta }, eye) {
  const colors = new Float32Array(3 * count);
  const rest = tensors.sh_rest?.data;
  const harmonics = (meta.sh_degree + 1) ** 2 - 1;
  const values = new Float64Array(harmonics);
  for (let g = 0; g < count; g++) {
    let red = 0.5 + C0 * sh[3 * g], green = 0.5 + C0 * sh[3 * g + 1], blue = 0.5 + C0 * sh[3 * g + 2];
    if (harmonics) {
      const x = means[3 * g] - eye[0], y = means[3 * g + 1] - eye[1], z = means[3 * g + 2] - eye[2];
      evaluateHarmonics(x, y, z, meta.sh_degree, values);
      for (let k = 0; k < harmonics; k++) {
        const i = 3 * (g * harmonics + k);
        red += values[k] * rest[i], green += values[k] * rest[i + 1], blue += values[k] * rest[i + 2];
      }
    }
    colors[3 * g] = Math.max(0, red), colors[3 * g + 1] = Math.max(0, green), colors[3 * g + 2] = Math.max(0, blue);
  }
  return colors;
}

/** Real spherical harmonics of degree 1 to `degree` towards (x, y, z), in the order of 3D Gaussian splatting. */
function evaluateHarmonics(x, y, z, degree, values) {
  const length = Math.hypot(x, y, z) || 1;
  x /= length, y /= length, z /= length;
  const root = (a, b) => Math.sqrt(a / (b * Math.PI));
  const c1 = root(3, 4);
  values[0] = -c1 * y, values[1] = c1 * z, values[2] = -c1 * x;
  if (degree < 2) return;
  const c2 = root(15, 4);
  values[3] = c2 * x * y, values[4] = -c2 * y * z, values[5] = root(5, 16) * (3 * z * z - 1);
  values[6] = -c2 * x * z, values[7] = (c2 / 2) * (x * x - y * y);
  if (degree < 3) return;
  const a = root(35, 32), b = root(105, 4), c = root(21, 32);
  values[8] = -a * y * (3 * x * x - y * y), values[9] = b * x * y * z, values[10] = -c * y * (5 * z * z - 1);
  values[11] = root(7, 16) * z * (5 * z * z - 3);
  values[12] = -c * x * (5 * z * z - 1), values[13] = (b / 2) * z * (x * x - y * y);
  values[14] = -a * x * (x * x - 3 * y * y);
}

/** Where a camera stands: -R^T t. */
function cameraPosition(view) {
  return [0, 1, 2].map((axis) => -(view[axis] * view[3] + view[4 + axis] * view[7] + view[8 + axis] * view[11]));
}
