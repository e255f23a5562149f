/** The bytes of snapshot chunks: unsigned LEB128 integers up to 2^53, and hashes. */

const FIRST_CAPACITY_BYTES = 1024;
/** Seven bits a byte: eight bytes hold 2^53. */
const VARINT_BYTES_MAX = 8;

export class ChunkWriter {
  #bytes = Buffer.allocUnsafe(FIRST_CAPACITY_BYTES);
  #length = 0;

  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe((this.#length + bytes) * 2);
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }

  varint(value: number): void {
    this.#reserve(VARINT_BYTES_MAX);
    let rest = value;
    while (rest >= 0x80) {
      this.#bytes[this.#length++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.#bytes[this.#length++] = rest;
  }

  hex(digits: string): void {
    this.#reserve(digits.length / 2);
    this.#length += this.#bytes.write(digits, this.#length, 'hex');
  }

  finish(): Uint8Array {
    return Buffer.from(this.#bytes.subarray(0, this.#length));
  }
}

/** Reads what `ChunkWriter` wrote; throws at the end of the bytes. */
export class ChunkReader {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.#bytes.readUInt8(this.#offset++);
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 0x80;
    }
  }

  hex(bytes: number): string {
    this.#offset += bytes;
    return this.#bytes.toString('hex', this.#offset - bytes, this.#offset);
  }
}
