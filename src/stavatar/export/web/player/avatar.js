// Reading the site's files: meta.json, and avatar.safetensors with its quantised arrays turned back into floats.

const KINDS = { F32: Float32Array, U8: Uint8Array, U16: Uint16Array, U32: Uint32Array };

/** Load an avatar from the folder at `base`: { meta, tensors }. Throws an Error with one readable sentence. */
export async function loadAvatar(base) {
  const names = ["meta.json", "avatar.safetensors"];
  const [meta, file] = await Promise.all(names.map((name) => fetchOrThrow(new URL(name, base))));
  return unpack(await meta.json(), await file.arrayBuffer());
}

async function fetchOrThrow(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname} cannot be loaded (${response.status})`);
  return response;
}

/** Turn the content of both files into { meta, tensors }, tensors being name -> { data, shape }. */
export function unpack(meta, buffer) {
  if (meta.format !== 1) throw new Error(`this player reads sites of format 1, not ${meta.format}`);
  const stored = readSafetensors(buffer);
  const tensors = {};
  for (const [name, tensor] of Object.entries(stored)) {
    if (name.includes(".")) continue;
    const low = stored[`${name}.low`], step = stored[`${name}.step`];
    tensors[name] = low ? dequantise(tensor, low.data, step.data) : tensor;
  }
  return { meta, tensors };
}

/** name -> { data, shape } of a safetensors file: a length of 8 bytes, a JSON header, and the numbers. */
export function readSafetensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  delete header.__metadata__;
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [start, end] }] of Object.entries(header)) {
    const Kind = KINDS[dtype];
    tensors[name] = { data: new Kind(buffer, 8 + length + start, (end - start) / Kind.BYTES_PER_ELEMENT), shape };
  }
  return tensors;
}

/** Integers [..., N, C] with low and step [..., C] -> { data: floats, shape }. */
function dequantise({ data, shape }, low, step) {
  const channels = shape.at(-1);
  const block = channels * shape.at(-2);
  const floats = new Float32Array(data.length);
  for (let i = 0; i < data.length; i++) {
    const channel = Math.floor(i / block) * channels + (i % channels);
    floats[i] = low[channel] + step[channel] * data[i];
  }
  return { data: floats, shape };
}
