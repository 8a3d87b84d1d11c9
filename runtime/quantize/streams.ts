/** Hidden states of all calibration samples, in the memory of the device or in a file with one sample on the device. */
import { closeSync, mkdirSync, openSync, readSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import type { Context, DeviceBuffer, Ref } from "../../ffi/mod.ts";
import { copyTensor } from "../ops/training.ts";
import type { ScratchStream } from "./method.ts";

export interface StreamShape {
  readonly samples: number;
  readonly length: number;
  readonly hidden: number;
}

/** A stream that can be written too. Samples are float32 [length, hidden]. */
export interface WritableStream extends ScratchStream {
  upload(index: number, values: Float32Array): void;
}

/** @param dir keeps the samples in a file of this folder; null keeps them in memory */
export function openStream(context: Context, shape: StreamShape, dir: string | null, name: string): WritableStream {
  return dir === null ? new MemoryStream(context, shape) : new FileStream(context, shape, dir, name);
}

/** Device memory that a stream takes. */
export function streamBytes({ samples, length, hidden }: StreamShape, onDisk: boolean): number {
  return (onDisk ? 1 : samples) * length * hidden * 4;
}

class MemoryStream implements WritableStream {
  readonly samples: number;
  readonly length: number;
  readonly hidden: number;
  readonly #context: Context;
  readonly #buffer: DeviceBuffer;

  constructor(context: Context, shape: StreamShape) {
    this.samples = shape.samples;
    this.length = shape.length;
    this.hidden = shape.hidden;
    this.#context = context;
    this.#buffer = context.alloc(streamBytes(shape, false));
  }

  read(index: number): Ref {
    return this.#buffer.at(index * this.length * this.hidden * 4);
  }

  write(index: number, from: Ref): void {
    copyTensor(this.#context, from, this.read(index), this.length * this.hidden);
  }

  upload(index: number, values: Float32Array): void {
    this.#buffer.upload(values, index * this.length * this.hidden * 4);
  }

  [Symbol.dispose](): void {
    this.#buffer[Symbol.dispose]();
  }
}

/** A file without a name once it is open: it disappears with the process, however that ends. */
class FileStream implements WritableStream {
  readonly samples: number;
  readonly length: number;
  readonly hidden: number;
  readonly #file: number;
  readonly #staging: DeviceBuffer;
  readonly #host: Float32Array<ArrayBuffer>;

  constructor(context: Context, shape: StreamShape, dir: string, name: string) {
    this.samples = shape.samples;
    this.length = shape.length;
    this.hidden = shape.hidden;
    mkdirSync(dir, { recursive: true });
    const path = join(dir, `.apiq-stream-${name}-${process.pid}.f32`);
    this.#file = openSync(path, "w+");
    unlinkSync(path);
    this.#host = new Float32Array(this.length * this.hidden);
    this.#staging = context.alloc(this.#host.byteLength);
  }

  read(index: number): Ref {
    const bytes = new Uint8Array(this.#host.buffer);
    const begin = index * bytes.length;
    for (let done = 0; done < bytes.length; ) {
      const got = readSync(this.#file, bytes, done, bytes.length - done, begin + done);
      if (got === 0) throw new Error(`Cannot read sample ${index} of a calibration stream: it was never written`);
      done += got;
    }
    this.#staging.upload(this.#host);
    return this.#staging.at(0);
  }

  write(index: number, from: Ref): void {
    from.buffer.download(this.#host, from.offset);
    this.#store(index);
  }

  upload(index: number, values: Float32Array): void {
    this.#host.set(values);
    this.#store(index);
  }

  #store(index: number): void {
    const bytes = new Uint8Array(this.#host.buffer);
    const begin = index * bytes.length;
    for (let done = 0; done < bytes.length; ) {
      done += writeSync(this.#file, bytes, done, bytes.length - done, begin + done);
    }
  }

  [Symbol.dispose](): void {
    this.#staging[Symbol.dispose]();
    closeSync(this.#file);
  }
}
