// Moving the camera around the head by mouse, touch and keyboard.

const PER_PIXEL = 0.006; // radians
const MOST_PITCH = 1.4;
const ZOOM = [0.3, 3];

export class Orbit {
  /** Listen on `element`; call `changed` after each move. */
  constructor(element, changed) {
    this.changed = changed;
    this.reset();
    const fingers = new Map();
    let spread;
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
      spread = undefined;
    });
    element.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      fingers.set(event.pointerId, event);
      if (fingers.size === 1) this.turn(event.clientX - before.clientX, event.clientY - before.clientY);
      if (fingers.size === 2) {
        const [a, b] = fingers.values();
        const now = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
        if (spread) this.scale(spread / now);
        spread = now;
      }
    });
    for (const name of ["pointerup", "pointercancel"]) {
      element.addEventListener(name, (event) => fingers.delete(event.pointerId));
    }
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.scale(Math.exp(event.deltaY * 0.001));
    }, { passive: false });
    element.addEventListener("dblclick", () => {
      this.reset();
      this.changed();
    });
  }

  reset() {
    this.yaw = 0;
    this.pitch = 0;
    this.zoom = 1;
  }

  /** Dragging to the right turns the head to the right on the screen, so the camera goes left. */
  turn(dx, dy) {
    this.yaw -= dx * PER_PIXEL;
    this.pitch = Math.min(Math.max(this.pitch + dy * PER_PIXEL, -MOST_PITCH), MOST_PITCH);
    this.changed();
  }

  scale(factor) {
    this.zoom = Math.min(Math.max(this.zoom * factor, ZOOM[0]), ZOOM[1]);
    this.changed();
  }

  /** The recorded world-to-camera (16 numbers) moved around `target`; the target stays where it is on the screen. */
  apply(recorded, target) {
    const [cy, sy, cp, sp] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
    // Transposed Ry(yaw) Rx(-pitch): the world turns against the camera.
    const turn = [cy, 0, -sy, -sy * sp, cp, -cy * sp, sy * cp, sp, cy * cp];
    const view = new Float32Array(16);
    view[15] = 1;
    for (let row = 0; row < 3; row++) {
      const old = recorded.subarray(4 * row, 4 * row + 4);
      const inCamera = old[0] * target[0] + old[1] * target[1] + old[2] * target[2] + old[3];
      let moved = 0;
      for (let column = 0; column < 3; column++) {
        view[4 * row + column] = old[0] * turn[column] + old[1] * turn[3 + column] + old[2] * turn[6 + column];
        moved += view[4 * row + column] * target[column];
      }
      view[4 * row + 3] = this.zoom * inCamera - moved;
    }
    return view;
  }
}
