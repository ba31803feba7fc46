// Drawing sorted Gaussians with WebGL 2: one quad for each, by the rule in stavatar/splat/conventions.py, blended back
// to front into a half-float picture, so that hundreds of faint layers do not add up rounding errors.

import { FLOATS } from "./splats.js";

const VERTEX = `#version 300 es
precision highp float;
uniform mat3 rotation;      // world to camera: x right, y down, z forward
uniform vec3 translation;
uniform vec2 focal, center, size;  // pixels
uniform float near, blur, leastAlpha;
in vec4 meanAndOpacity;
in vec3 covarianceX, covarianceY;  // (xx, xy, xz), (yy, yz, zz)
in vec3 color;
out vec2 whitened;          // offset from the mean, in standard deviations along the ellipse's axes
out vec4 colorAndOpacity;

void main() {
  vec3 p = rotation * meanAndOpacity.xyz + translation;
  float opacity = meanAndOpacity.w;
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);  // outside: not drawn
  if (p.z < near || opacity < leastAlpha) return;

  vec2 margin = 0.15 * size / focal;
  vec2 ray = clamp(p.xy / p.z, -center / focal - margin, (size - center) / focal + margin);
  mat3 covariance = mat3(
    covarianceX.x, covarianceX.y, covarianceX.z,
    covarianceX.y, covarianceY.x, covarianceY.y,
    covarianceX.z, covarianceY.y, covarianceY.z);
  mat3 inCamera = rotation * covariance * transpose(rotation);
  vec3 jx = vec3(focal.x, 0.0, -focal.x * ray.x) / p.z;
  vec3 jy = vec3(0.0, focal.y, -focal.y * ray.y) / p.z;
  float a = dot(jx, inCamera * jx) + blur, b = dot(jx, inCamera * jy), c = dot(jy, inCamera * jy) + blur;

  float middle = 0.5 * (a + c), radius = length(vec2(0.5 * (a - c), b));
  float angle = radius > 1e-9 * middle ? 0.5 * atan(2.0 * b, a - c) : 0.0;
  vec2 major = vec2(cos(angle), sin(angle)), minor = vec2(-major.y, major.x);
  vec2 deviation = sqrt(vec2(middle + radius, max(middle - radius, 0.5 * blur)));

  float reach = sqrt(2.0 * log(opacity / leastAlpha));  // alpha falls below the least at this many deviations
  whitened = reach * (2.0 * vec2(gl_VertexID & 1, gl_VertexID >> 1) - 1.0);
  vec2 pixel = focal * p.xy / p.z + center + whitened.x * deviation.x * major + whitened.y * deviation.y * minor;
  gl_Position = vec4((2.0 * pixel / size - 1.0) * vec2(1.0, -1.0), 0.0, 1.0);
  colorAndOpacity = vec4(color, opacity);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
uniform float leastAlpha, mostAlpha;
in vec2 whitened;
in vec4 colorAndOpacity;
out vec4 result;

void main() {
  float alpha = min(mostAlpha, colorAndOpacity.a * exp(-0.5 * dot(whitened, whitened)));
  if (alpha < leastAlpha) discard;
  result = vec4(alpha * colorAndOpacity.rgb, alpha);
}`;

export class Renderer {
  /** `drawing`: the constants of the drawing rule, from meta.json. Throws where the browser has no WebGL 2. */
  constructor(canvas, drawing) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, preserveDrawingBuffer: true });
    if (!gl) throw new Error("this browser offers no WebGL 2, which the player needs");
    this.canvas = canvas;
    this.gl = gl;
    this.count = 0;
    this.halfFloat = gl.getExtension("EXT_color_buffer_float") || gl.getExtension("EXT_color_buffer_half_float");
    this.program = buildProgram(gl);
    gl.useProgram(this.program);
    gl.uniform1f(this.uniform("near"), drawing.near);
    gl.uniform1f(this.uniform("blur"), drawing.blur);
    gl.uniform1f(this.uniform("leastAlpha"), drawing.alpha_least);
    gl.uniform1f(this.uniform("mostAlpha"), drawing.alpha_most);
    this.buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    let offset = 0;
    for (const [name, width] of [["meanAndOpacity", 4], ["covarianceX", 3], ["covarianceY", 3], ["color", 3]]) {
      const location = gl.getAttribLocation(this.program, name);
      gl.enableVertexAttribArray(location);
      gl.vertexAttribPointer(location, width, gl.FLOAT, false, 4 * FLOATS, 4 * offset);
      gl.vertexAttribDivisor(location, 1);
      offset += width;
    }
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  uniform(name) {
    return this.gl.getUniformLocation(this.program, name);
  }

  /** Take new Gaussians, packed and sorted by packSplats. */
  upload(packed) {
    this.count = packed.length / FLOATS;
    this.gl.bufferData(this.gl.ARRAY_BUFFER, packed, this.gl.STREAM_DRAW);
  }

  /** Draw over a background [r, g, b] in [0, 1], through a camera { view: 16 numbers, focal, center } in pixels. */
  draw({ view, focal, center }, background) {
    const { gl, canvas } = this;
    const target = this.halfFloat ? this.halfFloatTarget() : null;
    gl.bindFramebuffer(gl.FRAMEBUFFER, target);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(...background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniformMatrix3fv(this.uniform("rotation"), true, [0, 1, 2, 4, 5, 6, 8, 9, 10].map((i) => view[i]));
    gl.uniform3f(this.uniform("translation"), view[3], view[7], view[11]);
    gl.uniform2f(this.uniform("focal"), ...focal);
    gl.uniform2f(this.uniform("center"), ...center);
    gl.uniform2f(this.uniform("size"), canvas.width, canvas.height);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.count);
    if (target) this.copyToCanvas(target);
  }

  /** The half-float picture of the canvas's size, made anew when that size has changed. */
  halfFloatTarget() {
    const { gl, canvas } = this;
    if (this.target?.width !== canvas.width || this.target?.height !== canvas.height) {
      if (this.target) gl.deleteRenderbuffer(this.target.color), gl.deleteFramebuffer(this.target.framebuffer);
      const color = gl.createRenderbuffer();
      gl.bindRenderbuffer(gl.RENDERBUFFER, color);
      gl.renderbufferStorage(gl.RENDERBUFFER, gl.RGBA16F, canvas.width, canvas.height);
      const framebuffer = gl.createFramebuffer();
      gl.bindFramebuffer(gl.FRAMEBUFFER, framebuffer);
      gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.RENDERBUFFER, color);
      this.target = { color, framebuffer, width: canvas.width, height: canvas.height };
    }
    return this.target.framebuffer;
  }

  copyToCanvas(framebuffer) {
    const { gl, canvas } = this;
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, framebuffer);
    gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, null);
    const box = [0, 0, canvas.width, canvas.height];
    gl.blitFramebuffer(...box, ...box, gl.COLOR_BUFFER_BIT, gl.NEAREST);
  }
}

function buildProgram(gl) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  return program;
}
