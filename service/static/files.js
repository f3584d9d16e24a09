// The files that a user chose: refuses what cannot be a model, and zips a model with its data files.

import { printable } from "./words.js";
import { zipped } from "./zip.js";

const MODEL = /\.(onnx|zip)$/i;
const ONNX = /\.onnx$/i;
const ZIP = /\.zip$/i;
const NAME_BYTES = 120; // of a name, at most: a file system must accept it with the suffixes that the service adds
const OTHERS = [
  [/\.(pt|pth|ckpt|safetensors)$/i, "is a checkpoint of weights, without a graph. Export the model first, with torch.onnx.export."],
  [/\.(tflite|pb|h5|keras)$/i, "is a TensorFlow model. Convert it first, with tf2onnx."],
  [/\.(engine|plan|trt|ort)$/i, "is built for one runtime already. Fold the ONNX model it was built from."],
  [/\.(tar|tgz|gz|7z|rar|xz)$/i, "is an archive of another kind. Use a .zip."],
];

/** Why these files cannot be folded, as a sentence; "" if they can. */
export function refused(files) {
  if (!files.some(({ name }) => MODEL.test(name)) && files.length > 1) return "None of these files is an .onnx model.";
  const { models, stray } = grouped(files);
  if (stray.length) {
    const which = `${stray[0].name}: to which of the models does it belong?`;
    return `${which} Choose each such model with its own data files, or give these the name of the model first, as in model.onnx.data.`;
  }
  return models.map(([model, ...data]) => (data.length ? "" : refusedAlone(model))).find(Boolean) ?? "";
}

/** The models, each before its data files, and the files that belong to none or to one of several.
 *
 * A data file belongs to the only .onnx file, or to that whose name its own begins with. */
function grouped(files) {
  const heads = files.filter(({ name }, i) => MODEL.test(name) || (i === 0 && files.length === 1));
  const models = new Map(heads.map((head) => [head, [head]]));
  const onnx = heads.filter(({ name }) => ONNX.test(name));
  const stray = [];
  for (const file of files.filter((one) => !models.has(one))) {
    const fitting = onnx.filter(({ name }) => file.name.startsWith(name.replace(ONNX, "")));
    const [owner] = onnx.length === 1 ? onnx : fitting.sort((a, b) => b.name.length - a.name.length);
    if (owner) models.get(owner).push(file);
    else stray.push(file);
  }
  return { models: [...models.values()], stray };
}

function refusedAlone({ name, size }) {
  const other = OTHERS.find(([ending]) => ending.test(name));
  if (other) return `${name} ${other[1]}`;
  if (size === 0) return `${name} is empty, or a folder. Choose an .onnx file, or a .zip that holds one.`;
  return MODEL.test(name) ? "" : `${name} does not end in .onnx or .zip. Choose an ONNX model, or a .zip that holds one.`;
}

/** The name to send with a file: plain characters, and no longer than the service accepts. */
export function nameToSend(file) {
  const ending = ZIP.test(file.name) ? ".zip" : ".onnx";
  const letters = [...printable(file.name).replaceAll("\\", "_").replace(MODEL, "")];
  while (new TextEncoder().encode(letters.join("")).length > NAME_BYTES - ending.length) letters.pop();
  return letters.join("") + ending;
}

/** The models to send: a model with data files becomes one zip, named after the model. */
export function bundled(files) {
  return Promise.all(grouped(files).models.map((model) => (model.length === 1 ? model[0] : bundle(model))));
}

async function bundle(files) {
  return new File([await zipped(files)], files[0].name.replace(ONNX, ".zip"), { type: "application/zip" });
}
