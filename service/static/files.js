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
  const models = files.filter(({ name }) => ONNX.test(name));
  if (files.length > 1) {
    if (models.length === 1) return "";
    return models.length ? "Choose one model at a time, with its data files if it has some." : "None of these files is an .onnx model.";
  }
  const [{ name, size }] = files;
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

/** A model and its data files as one zip, named after the model. */
export async function bundled(files) {
  const { name } = files.find((one) => ONNX.test(one.name));
  return new File([await zipped(files)], name.replace(ONNX, ".zip"), { type: "application/zip" });
}
