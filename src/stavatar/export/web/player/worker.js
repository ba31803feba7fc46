// Posing and sorting, off the page's thread. In: { base } or { meta, file } once, then { parameters, view, buffer }.
// Out: { ready }, then { buffer } for each, or { error }. `buffer` is used again if the page hands one back.

import { loadAvatar, unpack } from "./avatar.js";
import { Poser } from "./pose.js";
import { FLOATS, packSplats } from "./splats.js";

let poser;
let posedFor;

self.onmessage = async ({ data }) => {
  try {
    if (!poser) {
      const avatar = data.base ? await loadAvatar(data.base) : unpack(data.meta, data.file);
      poser = new Poser(avatar);
      const { motion, world_to_camera, focal, center } = avatar.tensors;
      poser.poseVertices(motion.data.subarray(0, motion.shape[1])); // for its joints
      const recording = { motion, world_to_camera, focal, center };
      const ready = { meta: avatar.meta, ...recording, joints: poser.joints, jawMoves: jawMoves(avatar) };
      self.postMessage({ ready });
      return;
    }
    if (!posedFor || data.parameters.some((value, i) => value !== posedFor[i])) {
      poser.pose(data.parameters);
      posedFor = data.parameters;
    }
    const packed = data.buffer ? new Float32Array(data.buffer) : new Float32Array(poser.count * FLOATS);
    packSplats(poser, data.view, packed);
    self.postMessage({ buffer: packed.buffer }, [packed.buffer]);
  } catch (error) {
    self.postMessage({ error: error.message });
  }
};

/** Whether turning the jaw joint moves anything: some heads open the mouth by expression instead. */
function jawMoves({ meta, tensors }) {
  const jaw = meta.joints.indexOf("jaw");
  return tensors.weights.data.some((weight, i) => i % meta.joints.length === jaw && weight > 0);
}
