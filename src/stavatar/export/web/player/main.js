// The page: keeps the state (frame, sliders, camera), lets the worker pose and sort, and draws what comes back.
//
// In the address, ?size=N fixes the picture's height to N pixels and ?panel=0 leaves the panel out, for embedding.
// Scripts find the Player as `window.player` once `window.playerReady` has resolved.

import { Playback, buildSliders } from "./controls.js";
import { Orbit } from "./orbit.js";
import { fieldOffsets } from "./pose.js";
import { Renderer } from "./renderer.js";

class Player {
  constructor(worker, { meta, motion, world_to_camera, focal, center, joints, jawMoves }) {
    this.worker = worker;
    this.meta = meta;
    this.motion = motion;
    this.cameras = { view: world_to_camera, focal, center };
    this.fields = fieldOffsets(meta.parameters);
    this.target = middleOfSkull(meta.joints, joints);
    this.canvas = document.getElementById("picture");
    this.renderer = new Renderer(this.canvas, meta.drawing);
    this.background = [1, 1, 1];
    this.added = new Float32Array(this.fields.width);
    this.changed = true; // since the worker was last asked
    this.waiting = []; // who wants to know when the picture shows everything
    const change = () => (this.changed = true);
    this.orbit = new Orbit(this.canvas, change);
    this.sliders = buildSliders(meta, this.fields, jawMoves, this.added, change);
    this.playback = new Playback(meta.frames, meta.fps, change);
    this.neutral = document.getElementById("neutral");
    this.neutral.addEventListener("change", change);
    const ground = document.getElementById("background");
    ground.addEventListener("input", () => {
      this.background = [1, 3, 5].map((i) => parseInt(ground.value.slice(i, i + 2), 16) / 255);
      this.canvas.parentElement.style.background = ground.value;
      change();
    });
    new ResizeObserver(() => this.fit()).observe(this.canvas.parentElement);
    this.fit();
    worker.onmessage = ({ data }) => (data.error ? fail(data.error) : this.receive(data.buffer));
    this.playback.seek(0);
    requestAnimationFrame((now) => this.tick(now));
  }

  /** Put a slider to a value, by its label. */
  set(label, value) {
    const input = this.sliders.get(label);
    input.value = value;
    input.dispatchEvent(new Event("input"));
  }

  /** Show one frame of the recording. */
  seek(frame) {
    this.playback.pause();
    this.playback.seek(frame);
  }

  /** Resolves when the picture shows the present state. */
  settled() {
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      this.changed = true;
    });
  }

  /** The canvas fills its place, or has the recorded shape at a fixed size. */
  fit() {
    const { width, height } = this.meta.image;
    const fixed = Number(new URLSearchParams(location.search).get("size"));
    const place = this.canvas.parentElement.getBoundingClientRect();
    const [w, h] = fixed ? [(fixed * width) / height, fixed] : [place.width, place.height];
    const dense = fixed ? 1 : window.devicePixelRatio;
    Object.assign(this.canvas.style, { width: `${w}px`, height: `${h}px` });
    this.canvas.width = Math.max(1, Math.round(dense * w));
    this.canvas.height = Math.max(1, Math.round(dense * h));
    this.changed = true;
  }

  tick(now) {
    this.playback.tick(now);
    if (this.changed && !this.asked) this.ask();
    requestAnimationFrame((next) => this.tick(next));
  }

  /** Have the worker pose and sort for the present state. */
  ask() {
    this.changed = false;
    this.asked = { camera: this.camera(), background: this.background, waiting: this.waiting };
    this.waiting = [];
    const request = { parameters: this.parameters(), view: this.asked.camera.view, buffer: this.spare };
    this.worker.postMessage(request, this.spare ? [this.spare] : []);
    this.spare = undefined;
  }

  receive(buffer) {
    const { camera, background, waiting } = this.asked;
    this.renderer.upload(new Float32Array(buffer));
    this.renderer.draw(camera, background);
    this.spare = buffer;
    this.asked = undefined;
    for (const resolve of waiting) resolve();
  }

  /** Head parameters of the present frame, with the sliders added. */
  parameters() {
    const { fields, added } = this;
    const frame = this.playback.frame;
    const parameters = this.motion.data.slice(frame * fields.width, (frame + 1) * fields.width);
    if (this.neutral.checked) {
      for (const name of ["expression", "neck", "jaw", "eyes"]) {
        parameters.fill(0, fields[name], fields[name] + this.meta.parameters[name]);
      }
    }
    return parameters.map((value, i) => value + added[i]);
  }

  /** The recorded camera, moved by the orbit; what it saw stands in the middle of the canvas, at its lower edge. */
  camera() {
    const { view, focal, center } = this.cameras;
    const frame = Math.min(this.playback.frame, view.shape[0] - 1);
    const { width, height } = this.meta.image;
    const scale = Math.min(this.canvas.width / width, this.canvas.height / height);
    const margin = [(this.canvas.width - scale * width) / 2, this.canvas.height - scale * height];
    return {
      view: this.orbit.apply(view.data.subarray(16 * frame, 16 * frame + 16), this.target),
      focal: [0, 1].map((axis) => scale * focal.data[2 * frame + axis]),
      center: [0, 1].map((axis) => scale * center.data[2 * frame + axis] + margin[axis]),
    };
  }
}

/** Halfway between the neck joint and the eyes: what the camera turns about. */
function middleOfSkull(names, joints) {
  const [neck, left, right] = ["neck", "left_eye", "right_eye"].map((name) => joints[names.indexOf(name)]);
  return neck.map((value, axis) => value / 2 + (left[axis] + right[axis]) / 4);
}

function fail(message) {
  const place = document.getElementById("message");
  place.textContent = message;
  place.hidden = false;
}

/** Start the worker on the site's files, or on what stands in the page itself where everything is one file. */
function start() {
  const embedded = (name) => document.getElementById(`embedded-${name}`);
  const [meta, avatar, source] = ["meta", "avatar", "worker"].map(embedded);
  const worker = source
    ? new Worker(URL.createObjectURL(new Blob([source.textContent], { type: "text/javascript" })))
    : new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  const data = avatar
    ? { meta: JSON.parse(meta.textContent), file: decodeBase64(avatar.textContent) }
    : { base: new URL("./", location.href).href };
  return new Promise((resolve, reject) => {
    worker.onerror = (event) => reject(new Error(event.message || "the player's worker cannot be started"));
    worker.onmessage = ({ data }) => {
      if (data.error) reject(new Error(data.error));
      else resolve(new Player(worker, data.ready));
    };
    worker.postMessage(data);
  });
}

function decodeBase64(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer;
}

document.body.classList.toggle("bare", new URLSearchParams(location.search).get("panel") === "0");
window.playerReady = start().then((player) => {
  window.player = player;
  document.getElementById("message").hidden = true;
  document.getElementById("facts").textContent = facts(player.meta);
  player.playback.play();
  return player;
});
window.playerReady.catch((error) => fail(error.message));

function facts({ measured }) {
  if (!measured) return "";
  return `${measured.megabytes.toFixed(1)} MB; ${measured.psnr_to_full_model.toFixed(1)} dB PSNR to the full model`;
}
