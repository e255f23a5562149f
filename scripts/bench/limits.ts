/**
 * The physical limits beside a run: how long this machine needs, right then, to parse, hash, verify and COPY the events
 * that the run has stored, with nothing around it; on one core and on two. The whole of a resync cannot take less than
 * what it cannot leave out.
 */
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Worker } from 'node:worker_threads';
import type pg from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { connectDatabase } from './database.ts';

const STEPS = [
  'JSON.parse',
  'strict parse',
  'SHA-256 of ready texts',
  'canonical JSON and SHA-256',
  'verify, OpenSSL',
  'verify, libsodium',
] as const;
export type LimitStep = (typeof STEPS)[number];

/**
 * What no resync can do without: each event parsed, hashed twice from its canonical form, verified, stored. Of several
 * ways to do a thing the quickest counts.
 */
const INDISPENSABLE: readonly (readonly Limit['step'][])[] = [
  ['JSON.parse', 'strict parse'],
  ['canonical JSON and SHA-256'],
  ['verify, OpenSSL', 'verify, libsodium'],
  ['COPY'],
];

const COPY_PIECE_BYTES = 64 * 1024;
const READ_ROWS = 10_000;

export interface Limit {
  readonly step: LimitStep | 'COPY';
  /** Events, hashes, signatures or rows. */
  readonly done: number;
  readonly oneCoreSeconds: number;
  readonly twoCoresSeconds: number;
}

export interface Limits {
  readonly events: number;
  /** Of the events' JSON. */
  readonly bytes: number;
  readonly limits: readonly Limit[];
  /** Of the indispensable steps. */
  readonly sum: { readonly oneCoreSeconds: number; readonly twoCoresSeconds: number };
}

/** What a thread works on. */
export interface LimitsShare {
  readonly bytes: SharedArrayBuffer;
  /** Where each event begins, and behind the last the end. */
  readonly offsets: Uint32Array;
  readonly roomVersion: string;
  /** `SERVER KEY_ID` to unpadded base64. */
  readonly keys: readonly (readonly [string, string])[];
}

/** Measures with the events and keys in this database; adds a plain table to it and drops it again. */
export async function measureLimits(databaseUrl: string, roomVersion: string): Promise<Limits> {
  const client = await connectDatabase(databaseUrl);
  try {
    const { bytes, offsets } = await readEvents(client);
    const { rows: keys } = await client.query<{ name: string; key: string }>(
      `SELECT server_name || ' ' || key_id AS name, public_key AS key FROM server_keys`,
    );
    const share = { bytes, offsets, roomVersion, keys: keys.map(({ name, key }) => [name, key] as const) };
    const one = await timeThreads(share, 1);
    const two = await timeThreads(share, 2);
    const limits: Limit[] = STEPS.map((step, i) => ({
      step,
      done: one[i]?.done ?? 0,
      oneCoreSeconds: one[i]?.seconds ?? NaN,
      twoCoresSeconds: two[i]?.seconds ?? NaN,
    }));
    const rows = await timeCopy(databaseUrl, client);
    limits.push({ step: 'COPY', ...rows });
    const sumOf = (pick: (limit: Limit) => number): number =>
      INDISPENSABLE.reduce((sum, ways) => {
        // libsodium may be missing here: it has done nothing then.
        const tried = limits.filter(({ step, done }) => ways.includes(step) && done > 0);
        return sum + Math.min(...tried.map(pick));
      }, 0);
    return {
      events: offsets.length - 1,
      bytes: bytes.byteLength,
      limits,
      sum: {
        oneCoreSeconds: sumOf(({ oneCoreSeconds }) => oneCoreSeconds),
        twoCoresSeconds: sumOf(({ twoCoresSeconds }) => twoCoresSeconds),
      },
    };
  } finally {
    await client.end();
  }
}

async function readEvents(client: pg.Client): Promise<{ bytes: SharedArrayBuffer; offsets: Uint32Array }> {
  const { rows: sizes } = await client.query<{ events: string; bytes: string }>(
    'SELECT count(*) AS events, coalesce(sum(octet_length(json::text)), 0) AS bytes FROM pdus WHERE NOT hollow',
  );
  const bytes = new SharedArrayBuffer(Number(sizes[0]?.bytes));
  const offsets = new Uint32Array(Number(sizes[0]?.events) + 1);
  const into = Buffer.from(bytes);
  for (let at = 0, after = 0; ;) {
    const { rows } = await client.query<{ nid: string; json: string }>(
      'SELECT nid, json::text AS json FROM pdus WHERE NOT hollow AND nid > $1 ORDER BY nid LIMIT $2',
      [after, READ_ROWS],
    );
    if (rows.length === 0) return { bytes, offsets };
    for (const { nid, json } of rows) {
      offsets[at + 1] = offsets[at]! + into.write(json, offsets[at]!);
      at += 1;
      after = Number(nid);
    }
  }
}

/** All steps by so many threads, each over its share; the time of a step is that of the slowest thread. */
async function timeThreads(whole: LimitsShare, threads: number): Promise<{ done: number; seconds: number }[]> {
  const events = whole.offsets.length - 1;
  const startOf = (thread: number): number => Math.floor((thread * events) / threads);
  const workers = Array.from({ length: threads }, (_, i) => {
    const offsets = whole.offsets.slice(startOf(i), startOf(i + 1) + 1);
    // Built, the file is beside this one: benches run from dist.
    return new Worker(new URL('./limits-thread.js', import.meta.url), { workerData: { ...whole, offsets } });
  });
  try {
    await Promise.all(workers.map(reply));
    const times: { done: number; seconds: number }[] = [];
    for (const step of STEPS) {
      const start = performance.now();
      const replies = workers.map(reply);
      for (const worker of workers) worker.postMessage(step);
      const done = (await Promise.all(replies)).reduce((sum, of) => sum + of, 0);
      times.push({ done, seconds: (performance.now() - start) / 1_000 });
    }
    return times;
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

function reply(worker: Worker): Promise<number> {
  return new Promise((resolve, reject) => {
    worker.once('error', reject);
    worker.once('message', (done: number) => {
      worker.off('error', reject);
      resolve(done);
    });
  });
}

/** The same rows into a table without any index, from bytes that lie ready: by one connection, then by two. */
async function timeCopy(databaseUrl: string, client: pg.Client): Promise<Omit<Limit, 'step'>> {
  const pieces: Buffer[] = [];
  const gather = new Writable({
    write: (piece: Buffer, _encoding, taken) => {
      pieces.push(piece);
      taken();
    },
  });
  await pipeline(client.query(copyTo('COPY pdus TO STDOUT')), gather);
  const text = Buffer.concat(pieces);
  const middle = text.indexOf('\n', text.length >> 1) + 1;
  const other = await connectDatabase(databaseUrl);
  try {
    const oneCoreSeconds = await timePlainTable(client, () => copyInto(client, text));
    const twoCoresSeconds = await timePlainTable(client, () =>
      Promise.all([copyInto(client, text.subarray(0, middle)), copyInto(other, text.subarray(middle))]),
    );
    const { rows } = await client.query<{ rows: string }>('SELECT count(*) AS rows FROM pdus');
    return { done: Number(rows[0]?.rows), oneCoreSeconds, twoCoresSeconds };
  } finally {
    await other.end();
  }
}

async function timePlainTable(client: pg.Client, work: () => Promise<unknown>): Promise<number> {
  await client.query('CREATE TABLE bench_plain (LIKE pdus)');
  try {
    const start = performance.now();
    await work();
    return (performance.now() - start) / 1_000;
  } finally {
    await client.query('DROP TABLE bench_plain');
  }
}

async function copyInto(client: pg.Client, text: Buffer): Promise<void> {
  const pieces = function* (): Generator<Buffer> {
    for (let at = 0; at < text.length; at += COPY_PIECE_BYTES) yield text.subarray(at, at + COPY_PIECE_BYTES);
  };
  await pipeline(Readable.from(pieces()), client.query(copyFrom('COPY bench_plain FROM STDIN')));
}
