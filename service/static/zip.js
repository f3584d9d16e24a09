// Makes a zip of files without compression: the bytes of large weights are never copied, only summed.

const POLYNOMIAL = 0xedb88320; // of the CRC-32 that the zip format uses (APPNOTE 4.4.7), bits reversed
const VERSION = 45; // of the format needed to read it: zip64 (APPNOTE 4.4.3)
const UTF8 = 0x0800; // general purpose flag: names are UTF-8 (APPNOTE 4.4.4)
const DATE = 0x21; // 1980-01-01, the first day that the format knows: the same files give the same zip
const HUGE = 0xffffffff; // means that the value is in the zip64 field
const ZIP64_FIELD = 1;
const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END64 = 0x06064b50;
const LOCATOR64 = 0x07064b50;
const END = 0x06054b50;

/** The files as one zip. Every size has 64 bits, so models beyond 4 GiB fit. */
export async function zipped(files) {
  const [parts, directory] = [[], []];
  let offset = 0;
  for (const file of files) {
    const name = new TextEncoder().encode(file.name);
    const sum = await crc32(file);
    const head = record([u32(LOCAL), ...common(sum, name, 20), name, u16(ZIP64_FIELD), u16(16), u64(file.size), u64(file.size)]);
    const zip64 = [u16(ZIP64_FIELD), u16(24), u64(file.size), u64(file.size), u64(offset)];
    const rest = [u16(0), u16(0), u16(0), u32(0), u32(HUGE), name, ...zip64]; // comment, disk, attributes, offset
    directory.push(record([u32(CENTRAL), u16(VERSION), ...common(sum, name, 28), ...rest]));
    parts.push(head, file);
    offset += head.length + file.size;
  }
  const size = directory.reduce((sum, entry) => sum + entry.length, 0);
  return new Blob([...parts, ...directory, tail(files.length, size, offset)]);
}

/** The fields that both headers of a file have: version, flag, no compression, time, date, sum, sizes, lengths. */
function common(sum, name, extra) {
  const sizes = [u32(HUGE), u32(HUGE), u16(name.length), u16(extra)];
  return [u16(VERSION), u16(UTF8), u16(0), u16(0), u16(DATE), u32(sum), ...sizes];
}

function tail(count, size, offset) {
  const counts = [u64(count), u64(count), u64(size), u64(offset)];
  const end64 = [u32(END64), u64(44), u16(VERSION), u16(VERSION), u32(0), u32(0), ...counts];
  const locator = [u32(LOCATOR64), u32(0), u64(offset + size), u32(1)];
  return record([...end64, ...locator, u32(END), u16(0), u16(0), u16(0xffff), u16(0xffff), u32(HUGE), u32(HUGE), u16(0)]);
}

function record(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    bytes.set(part, place);
    place += part.length;
  }
  return bytes;
}

function u16(value) {
  return new Uint8Array(new Uint16Array([value]).buffer); // little-endian, as zip requires, on all machines with browsers
}

function u32(value) {
  return new Uint8Array(new Uint32Array([value]).buffer);
}

function u64(value) {
  return new Uint8Array(new BigUint64Array([BigInt(value)]).buffer);
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit += 1) rest = rest & 1 ? (rest >>> 1) ^ POLYNOMIAL : rest >>> 1;
  return rest;
});

async function crc32(file) {
  let sum = 0xffffffff;
  const reader = file.stream().getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return (sum ^ 0xffffffff) >>> 0;
    for (const byte of value) sum = TABLE[(sum ^ byte) & 0xff] ^ (sum >>> 8);
  }
}
