// Unpacking arrays: the other half of `pack` in slt_notebook/views/base/widget.py: one zlib stream
// that holds every array at an offset aligned to 8 bytes, and a `meta` object that names them:
//   meta = {codec: "zlib", size: <bytes inflated>,
//           arrays: {<name>: {dtype: "i1"|"u1"|"i4"|"f4"|"f8"|"json", shape: [...], offset, bytes}}}

export type Numbers = Int8Array | Uint8Array | Int32Array | Float32Array | Float64Array;

export interface ArrayMeta {
  dtype: "i1" | "u1" | "i4" | "f4" | "f8" | "json";
  shape: number[];
  offset: number;
  bytes: number;
}

export interface PayloadMeta {
  codec: "zlib" | "none";
  size: number;
  arrays: Record<string, ArrayMeta>;
  [key: string]: unknown;
}

const VIEWS = {
  i1: Int8Array,
  u1: Uint8Array,
  i4: Int32Array,
  f4: Float32Array,
  f8: Float64Array,
} as const;

/** The bytes of a `Bytes` trait, whatever the host hands over (a DataView, an array, a buffer). */
export function bytesOf(value: unknown): Uint8Array {
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (ArrayBuffer.isView(value)) {
    return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  }
  return new Uint8Array(0);
}

export async function inflate(bytes: Uint8Array): Promise<ArrayBuffer> {
  const stream = new Blob([bytes as BlobPart])
    .stream()
    .pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** Every array of a payload by name; JSON entries come back as what they hold. */
export async function unpack(meta: PayloadMeta, value: unknown): Promise<Record<string, any>> {
  const bytes = bytesOf(value);
  // A copy, because a view into a message need not be aligned for a Float32Array.
  const buffer = meta.codec === "zlib" ? await inflate(bytes) : bytes.slice().buffer;
  if (buffer.byteLength !== meta.size) {
    throw new Error(`payload of ${buffer.byteLength} bytes where ${meta.size} were announced`);
  }
  const result: Record<string, any> = {};
  for (const [name, array] of Object.entries(meta.arrays)) {
    if (array.dtype === "json") {
      const text = new TextDecoder().decode(new Uint8Array(buffer, array.offset, array.bytes));
      result[name] = JSON.parse(text);
    } else {
      const View = VIEWS[array.dtype];
      result[name] = new View(buffer, array.offset, array.bytes / View.BYTES_PER_ELEMENT);
    }
  }
  return result;
}
