// Head parameters in, Gaussians in world space out: what stavatar's HeadModel and Avatar.bind compute, with the offset
// network replaced by its distilled basis. Matrices are 9 numbers, row after row.

const OFFSETS = 13; // raw channels of a texel: position 3, scale 3, rotation 3, colour 3, opacity 1

export class Poser {
  /** `avatar` as loadAvatar returns it. */
  constructor({ meta, tensors }) {
    this.meta = meta;
    this.tensors = tensors;
    this.count = tensors.face.data.length;
    this.fields = fieldOffsets(meta.parameters);
    this.vertices = new Float32Array(tensors.template.data.length);
    this.frames = new Float32Array((tensors.faces.data.length / 3) * 13); // per face: rotation 9, origin 3, size 1
    this.rotations = gaussianRotations(tensors.quaternion.data);
    this.scales = tensors.log_scale.data.map(Math.exp);
    this.hardOpacities = tensors.opacity_logit.data.map((logit) => 1 / (1 + Math.exp(-logit)));
    this.means = new Float32Array(this.count * 3);
    this.covariances = new Float32Array(this.count * 6); // xx, xy, xz, yy, yz, zz
    this.opacities = new Float32Array(this.count);
    this.sh = Float32Array.from(tensors.sh_dc.data); // degree 0, offsets included
    this.offsets = meta.offsets && new OffsetMaps(meta.offsets.resolution, tensors);
  }

  /** Pose all Gaussians for one set of head parameters [P]; results are in the fields of this object. */
  pose(parameters) {
    this.poseVertices(parameters);
    this.measureFaces();
    if (this.offsets) this.offsets.mix(parameters);
    this.bind();
  }

  /** Expressions, then linear blend skinning. Also sets `this.joints`, their positions in the world. */
  poseVertices(parameters) {
    const { template, expression_start, expression_vertex, expression_delta, weights } = this.tensors;
    const { vertices, fields } = this;
    vertices.set(template.data);
    for (let e = 0; e < this.meta.parameters.expression; e++) {
      const amount = parameters[e];
      if (amount === 0) continue;
      for (let i = expression_start.data[e]; i < expression_start.data[e + 1]; i++) {
        const v = 3 * expression_vertex.data[i];
        for (let axis = 0; axis < 3; axis++) vertices[v + axis] += amount * expression_delta.data[3 * i + axis];
      }
    }
    const { transforms, origins } = jointTransforms(this.meta, this.tensors.joints.data, parameters, fields);
    const shift = parameters.subarray(fields.translation, fields.translation + 3);
    this.joints = origins.map((origin) => origin.map((value, axis) => value + shift[axis]));
    const count = this.meta.joints.length;
    const blended = new Float64Array(12);
    for (let v = 0; v < vertices.length / 3; v++) {
      blended.fill(0);
      for (let j = 0; j < count; j++) {
        const weight = weights.data[v * count + j];
        if (weight === 0) continue;
        for (let k = 0; k < 12; k++) blended[k] += weight * transforms[j][k];
      }
      const x = vertices[3 * v], y = vertices[3 * v + 1], z = vertices[3 * v + 2];
      for (let row = 0; row < 3; row++) {
        const k = 4 * row;
        vertices[3 * v + row] = blended[k] * x + blended[k + 1] * y + blended[k + 2] * z + blended[k + 3] + shift[row];
      }
    }
  }

  /** The frame of each face: columns are the edge v0 -> v1, the normal, and their cross product; size is k of eq. 2. */
  measureFaces() {
    const faces = this.tensors.faces.data;
    const { vertices, frames } = this;
    for (let f = 0; f < faces.length / 3; f++) {
      const a = 3 * faces[3 * f], b = 3 * faces[3 * f + 1], c = 3 * faces[3 * f + 2];
      const x = vertices[a], y = vertices[a + 1], z = vertices[a + 2];
      let ex = vertices[b] - x, ey = vertices[b + 1] - y, ez = vertices[b + 2] - z;
      const length = Math.max(Math.sqrt(ex * ex + ey * ey + ez * ez), 1e-9);
      ex /= length, ey /= length, ez /= length;
      const ox = vertices[c] - x, oy = vertices[c + 1] - y, oz = vertices[c + 2] - z;
      let nx = ey * oz - ez * oy, ny = ez * ox - ex * oz, nz = ex * oy - ey * ox;
      const height = Math.max(Math.sqrt(nx * nx + ny * ny + nz * nz), 1e-9);
      nx /= height, ny /= height, nz /= height;
      const o = 13 * f;
      frames[o] = ex, frames[o + 1] = nx, frames[o + 2] = ey * nz - ez * ny;
      frames[o + 3] = ey, frames[o + 4] = ny, frames[o + 5] = ez * nx - ex * nz;
      frames[o + 6] = ez, frames[o + 7] = nz, frames[o + 8] = ex * ny - ey * nx;
      for (let axis = 0; axis < 3; axis++) {
        frames[o + 9 + axis] = (vertices[a + axis] + vertices[b + axis] + vertices[c + axis]) / 3;
      }
      frames[o + 12] = (length + height) / 2;
    }
  }

  /** Carry each Gaussian along with its face (eq. 2) and add its offsets (eq. 7). */
  bind() {
    const { face, position, sh_dc } = this.tensors;
    const { frames, rotations, scales, hardOpacities, means, covariances, opacities, sh, offsets } = this;
    const rules = this.meta.offsets;
    const raw = new Float64Array(OFFSETS);
    const local = new Float64Array(3); // in the face's axes, metres
    const shift = new Float64Array(3); // in the world's
    const shifted = rules?.frame === "face" ? local : shift; // whose axes position offsets have
    const scale = new Float64Array(3);
    const turned = new Float64Array(9);
    const axes = new Float64Array(9);
    const turn = new Float64Array(9);
    for (let g = 0; g < this.count; g++) {
      const f = 13 * face.data[g];
      const size = frames[f + 12];
      shift.fill(0);
      for (let axis = 0; axis < 3; axis++) {
        local[axis] = size * position.data[3 * g + axis];
        scale[axis] = size * scales[3 * g + axis];
      }
      multiply(frames, f, rotations, 9 * g, turned);
      let opacity = hardOpacities[g];
      let rotation = turned;
      if (offsets) {
        offsets.read(g, raw);
        for (let axis = 0; axis < 3; axis++) {
          shifted[axis] += rules.position_range * Math.tanh(raw[axis]);
          scale[axis] *= Math.exp(Math.min(Math.max(raw[3 + axis], -rules.scale_range), rules.scale_range));
          sh[3 * g + axis] = sh_dc.data[3 * g + axis] + 0.7 * Math.tanh(raw[9 + axis]);
        }
        axisAngle(Math.PI * Math.tanh(raw[6]), Math.PI * Math.tanh(raw[7]), Math.PI * Math.tanh(raw[8]), turn);
        multiply(turn, 0, turned, 0, axes);
        rotation = axes;
        opacity = Math.min(Math.max(opacity + 0.5 * Math.tanh(raw[12]), 0), 1);
      }
      opacities[g] = opacity;
      for (let row = 0; row < 3; row++) {
        const k = f + 3 * row;
        const carried = frames[k] * local[0] + frames[k + 1] * local[1] + frames[k + 2] * local[2];
        means[3 * g + row] = frames[f + 9 + row] + carried + shift[row];
      }
      const sx = scale[0] ** 2, sy = scale[1] ** 2, sz = scale[2] ** 2;
      let entry = 6 * g;
      for (let row = 0; row < 9; row += 3) {
        for (let column = row; column < 9; column += 3) {
          covariances[entry++] =
            sx * rotation[row] * rotation[column] +
            sy * rotation[row + 1] * rotation[column + 1] +
            sz * rotation[row + 2] * rotation[column + 2];
        }
      }
    }
  }
}

/** The distilled offset maps: a mean and a few maps whose amounts are linear in the head parameters. */
class OffsetMaps {
  constructor(resolution, { texels, mean, maps, coefficients, low, high, uv }) {
    this.mean = mean.data;
    this.maps = maps.data;
    this.coefficients = coefficients.data;
    this.low = low.data;
    this.high = high.data;
    this.rank = maps.shape[0];
    this.mixed = new Float32Array(mean.data.length);
    this.neighbours = bilinearNeighbours(resolution, texels.data, uv.data);
  }

  /** Sum up the maps for these parameters, clamped to the range that was recorded. */
  mix(parameters) {
    const { rank, low, high, coefficients, mean, maps, mixed } = this;
    const amounts = new Float64Array(rank);
    for (let k = 0; k < rank; k++) {
      amounts[k] = coefficients[low.length * rank + k];
      for (let p = 0; p < low.length; p++) {
        amounts[k] += coefficients[p * rank + k] * Math.min(Math.max(parameters[p], low[p]), high[p]);
      }
    }
    mixed.set(mean);
    for (let k = 0; k < rank; k++) {
      const amount = amounts[k], start = k * mixed.length;
      for (let i = 0; i < mixed.length; i++) mixed[i] += amount * maps[start + i];
    }
  }

  /** The raw offsets of Gaussian `g`, read bilinearly, into `result` [13]. */
  read(g, result) {
    const { index, weight } = this.neighbours;
    const { mixed } = this;
    const i = 4 * g;
    const a = OFFSETS * index[i], b = OFFSETS * index[i + 1], c = OFFSETS * index[i + 2], d = OFFSETS * index[i + 3];
    for (let channel = 0; channel < OFFSETS; channel++) {
      result[channel] =
        weight[i] * mixed[a + channel] +
        weight[i + 1] * mixed[b + channel] +
        weight[i + 2] * mixed[c + channel] +
        weight[i + 3] * mixed[d + channel];
    }
  }
}

/** The four stored texels around each coordinate (u, v), and their weights; texel centres are at (i + 0.5) / R. */
function bilinearNeighbours(resolution, texels, uv) {
  const place = new Uint32Array(resolution * resolution); // texel -> its row among those stored
  texels.forEach((texel, row) => (place[texel] = row));
  const count = uv.length / 2;
  const index = new Uint32Array(4 * count);
  const weight = new Float32Array(4 * count);
  const last = resolution - 1;
  for (let g = 0; g < count; g++) {
    const x = Math.min(Math.max(uv[2 * g] * resolution - 0.5, 0), last);
    const y = Math.min(Math.max(uv[2 * g + 1] * resolution - 0.5, 0), last);
    const column = Math.floor(x), row = Math.floor(y);
    for (let corner = 0; corner < 4; corner++) {
      const right = corner & 1, up = corner >> 1;
      index[4 * g + corner] = place[Math.min(row + up, last) * resolution + Math.min(column + right, last)];
      weight[4 * g + corner] = (right ? x - column : 1 - x + column) * (up ? y - row : 1 - y + row);
    }
  }
  return { index, weight };
}

/** Where each field starts in a parameter vector. */
export function fieldOffsets(widths) {
  const offsets = {};
  let start = 0;
  for (const [name, width] of Object.entries(widths)) {
    offsets[name] = start;
    start += width;
  }
  return { ...offsets, width: start };
}

/** Each joint's transform of the unposed head, 12 numbers (3 rows of rotation and shift), and the joints' origins. */
function jointTransforms(meta, joints, parameters, fields) {
  const locals = [fields.rotation, fields.neck, fields.jaw, fields.eyes, fields.eyes + 3];
  const rotations = [], origins = [], transforms = [];
  meta.parents.forEach((parent, j) => {
    const local = new Float64Array(9);
    axisAngle(parameters[locals[j]], parameters[locals[j] + 1], parameters[locals[j] + 2], local);
    const rest = [joints[3 * j], joints[3 * j + 1], joints[3 * j + 2]];
    if (parent < 0) {
      rotations.push(local);
      origins.push(rest);
    } else {
      const bone = rest.map((value, axis) => value - joints[3 * parent + axis]);
      if (meta.joints[j] === "neck") {
        bone.forEach((_, axis) => (bone[axis] += parameters[fields.neck_translation + axis]));
      }
      const rotation = new Float64Array(9);
      multiply(rotations[parent], 0, local, 0, rotation);
      rotations.push(rotation);
      origins.push(apply(rotations[parent], bone).map((value, axis) => value + origins[parent][axis]));
    }
    const moved = apply(rotations[j], rest);
    const transform = new Float64Array(12);
    for (let row = 0; row < 3; row++) {
      for (let column = 0; column < 3; column++) transform[4 * row + column] = rotations[j][3 * row + column];
      transform[4 * row + 3] = origins[j][row] - moved[row];
    }
    transforms.push(transform);
  });
  return { transforms, origins };
}

/** Quaternions wxyz of any length -> matrices, 9 numbers each. */
function gaussianRotations(quaternions) {
  const matrices = new Float32Array((quaternions.length / 4) * 9);
  for (let g = 0; g < quaternions.length / 4; g++) {
    const quaternion = quaternions.subarray(4 * g, 4 * g + 4);
    const length = Math.hypot(...quaternion) || 1;
    const [w, x, y, z] = quaternion.map((value) => value / length);
    matrices.set(
      [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
      ],
      9 * g,
    );
  }
  return matrices;
}

/** Rodrigues' formula: the rotation vector (x, y, z) as a matrix, into `result` [9]. */
function axisAngle(x, y, z, result) {
  const square = x * x + y * y + z * z;
  const angle = Math.sqrt(square);
  const first = square < 1e-6 ? 1 - square / 6 : Math.sin(angle) / angle;
  const second = square < 1e-6 ? 0.5 - square / 24 : (1 - Math.cos(angle)) / square;
  result[0] = 1 - second * (y * y + z * z);
  result[1] = second * x * y - first * z;
  result[2] = second * x * z + first * y;
  result[3] = second * x * y + first * z;
  result[4] = 1 - second * (x * x + z * z);
  result[5] = second * y * z - first * x;
  result[6] = second * x * z - first * y;
  result[7] = second * y * z + first * x;
  result[8] = 1 - second * (x * x + y * y);
}

/** left x right of two 3 x 3 matrices that start at the given places, into `result` [9]. */
function multiply(left, l, right, r, result) {
  for (let row = 0; row < 3; row++) {
    const a = left[l + 3 * row], b = left[l + 3 * row + 1], c = left[l + 3 * row + 2];
    for (let column = 0; column < 3; column++) {
      result[3 * row + column] = a * right[r + column] + b * right[r + 3 + column] + c * right[r + 6 + column];
    }
  }
}

function apply(matrix, [x, y, z]) {
  return [0, 3, 6].map((row) => matrix[row] * x + matrix[row + 1] * y + matrix[row + 2] * z);
}
