/** The entry of a verification thread: keeps prepared chunks until their keys arrive. Started by pool.ts only. */
import { parentPort } from 'node:worker_threads';
import { invariant } from '../invariant.ts';
import { type RoomVersionRules, roomVersionRules } from '../matrix/room-versions.ts';
import { packEvents } from './batch.ts';
import { type PrepareRequest, type ThreadReply, type ThreadRequest, type VerifyRequest } from './messages.ts';
import { type PreparedEvent, prepareChunk } from './prepare.ts';
import { readBody } from './read-body.ts';
import { screenEvents } from './screen.ts';
import { keyLookup, verifyEvent } from './verify.ts';

const waiting = new Map<number, { readonly rules: RoomVersionRules; readonly events: readonly PreparedEvent[] }>();

function prepare(request: PrepareRequest): ThreadReply {
  const rules = roomVersionRules(request.roomVersion);
  invariant(rules !== undefined, `room version ${request.roomVersion} is not known`);
  const { events, reply } = prepareChunk(request.chunk, request, { ...request, rules });
  waiting.set(request.chunk, { rules, events });
  return reply;
}

function verify({ chunk, held, keys }: VerifyRequest): ThreadReply {
  const prepared = waiting.get(chunk);
  invariant(prepared !== undefined, 'a chunk is prepared before it is verified');
  waiting.delete(chunk);
  const findKey = keyLookup(keys);
  const verified = prepared.events.map((event, i) =>
    event.ready && held[i] === 1
      ? { outcome: { outcome: 'skipped', eventId: event.pdu.eventId } as const }
      : verifyEvent(event, prepared.rules, findKey),
  );
  const rewritten = packEvents(verified.map((event) => Buffer.from(event.rewritten ?? '')));
  return { type: 'verified', chunk, outcomes: verified.map(({ outcome }) => outcome), rewritten };
}

function work(request: Exclude<ThreadRequest, { type: 'forget' }>): ThreadReply {
  switch (request.type) {
    case 'prepare':
      return prepare(request);
    case 'verify':
      return verify(request);
    case 'read-body':
      return { type: 'body-read', chunk: request.chunk, body: readBody(request.claim, request.body) };
    case 'screen':
      return screenEvents(request);
  }
}

function answer(request: Exclude<ThreadRequest, { type: 'forget' }>): ThreadReply {
  try {
    return work(request);
  } catch (error) {
    waiting.delete(request.chunk);
    return { type: 'failed', chunk: request.chunk, message: error instanceof Error ? error.message : String(error) };
  }
}

invariant(parentPort !== null, 'thread.ts runs in a worker thread');
const port = parentPort;
port.on('message', (request: ThreadRequest) => {
  if (request.type === 'forget') {
    waiting.delete(request.chunk);
  } else {
    const reply = answer(request);
    const isRewritten = reply.type === 'verified' || reply.type === 'screened';
    port.postMessage(reply, isRewritten ? [reply.rewritten.bytes.buffer, reply.rewritten.offsets.buffer] : []);
  }
});
