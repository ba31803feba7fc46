// The panel beside the picture: playback, sliders that are added to the motion, background.

const DEGREES = Math.PI / 180;

// Label and the expressions that it moves together; shown where the head has all of them.
const MAIN = [
  ["Open mouth", ["jawOpen"]],
  ["Smile", ["mouthSmileLeft", "mouthSmileRight"]],
  ["Frown", ["mouthFrownLeft", "mouthFrownRight"]],
  ["Pucker", ["mouthPucker"]],
  ["Funnel", ["mouthFunnel"]],
  ["Blink", ["eyeBlinkLeft", "eyeBlinkRight"]],
  ["Squint", ["eyeSquintLeft", "eyeSquintRight"]],
  ["Raise brows", ["browInnerUp", "browOuterUpLeft", "browOuterUpRight"]],
  ["Lower brows", ["browDownLeft", "browDownRight"]],
  ["Puff cheeks", ["cheekPuff"]],
];

// Label, field, axis-angle components that it turns, and the largest angle in degrees to either side.
const TURNS = [
  ["Turn head", "neck", [1], 40],
  ["Nod", "neck", [0], 30],
  ["Tilt head", "neck", [2], 25],
  ["Look sideways", "eyes", [1, 4], 30],
  ["Look down", "eyes", [0, 3], 20],
];
const JAW = ["Open jaw", "jaw", [0], 25];

/** Build all sliders. `fields` is where each field starts in a parameter vector; `added` the vector they write to. */
export function buildSliders(meta, fields, jawMoves, added, changed) {
  const names = meta.expression_names;
  const inputs = new Map();
  const slider = (parent, label, places, [low, high]) => {
    const row = document.createElement("label");
    const text = document.createElement("span");
    const input = document.createElement("input");
    Object.assign(input, { type: "range", min: low, max: high, step: (high - low) / 200, value: 0 });
    text.textContent = label;
    row.append(text, input);
    parent.append(row);
    input.addEventListener("input", () => {
      for (const place of places) added[place] = Number(input.value);
      changed();
    });
    inputs.set(label, input);
  };

  const face = document.getElementById("face");
  const known = MAIN.filter(([, expressions]) => expressions.every((name) => names.includes(name)));
  for (const [label, expressions] of known) {
    slider(face, label, expressions.map((name) => names.indexOf(name)), [-1, 1]);
  }
  const range = known.length ? [-1, 1] : [-3, 3]; // ARKit's blendshapes, or standard deviations
  const others = document.getElementById("expressions");
  names.forEach((name, i) => slider(others, name, [i], range));
  others.parentElement.open = known.length === 0;

  const head = document.getElementById("head");
  for (const [label, field, axes, degrees] of jawMoves ? [JAW, ...TURNS] : TURNS) {
    slider(head, label, axes.map((axis) => fields[field] + axis), [-degrees * DEGREES, degrees * DEGREES]);
  }

  document.getElementById("reset").addEventListener("click", () => {
    added.fill(0);
    for (const input of inputs.values()) input.value = 0;
    changed();
  });
  return inputs;
}

/** Play, pause and scrub. `show(frame)` is called whenever another frame is due. */
export class Playback {
  constructor(frames, fps, show) {
    this.frames = frames;
    this.fps = fps;
    this.show = show;
    this.frame = 0;
    this.button = document.getElementById("play");
    this.scrub = document.getElementById("scrub");
    this.scrub.max = frames - 1;
    this.button.addEventListener("click", () => this.toggle());
    this.scrub.addEventListener("input", () => {
      this.pause();
      this.seek(Number(this.scrub.value));
    });
    document.addEventListener("keydown", (event) => {
      if (event.target instanceof HTMLInputElement || event.target instanceof HTMLButtonElement) return;
      if (event.key === " ") this.toggle();
      else if (event.key === "ArrowLeft") this.step(-1);
      else if (event.key === "ArrowRight") this.step(1);
      else return;
      event.preventDefault();
    });
    this.pause();
  }

  seek(frame) {
    this.frame = ((Math.round(frame) % this.frames) + this.frames) % this.frames;
    this.scrub.value = this.frame;
    document.getElementById("frame").textContent = `${this.frame} / ${this.frames - 1}`;
    this.show(this.frame);
  }

  step(by) {
    this.pause();
    this.seek(this.frame + by);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    this.playing = true;
    this.button.textContent = "Pause";
    this.began = performance.now() - (1000 * this.frame) / this.fps;
  }

  pause() {
    this.playing = false;
    this.button.textContent = "Play";
  }

  /** Call once per animation frame. */
  tick(now) {
    if (!this.playing) return;
    const due = Math.floor(((now - this.began) / 1000) * this.fps) % this.frames;
    if (due !== this.frame) this.seek(Math.max(due, 0));
  }
}
