/** What a verification thread does with what it is asked: it keeps prepared chunks until their keys arrive. */
import { invariant } from '../invariant.ts';
import { type RoomVersionRules, roomVersionRules } from '../matrix/room-versions.ts';
import { packEvents } from './batch.ts';
import { type PrepareRequest, type ThreadReply, type ThreadRequest, type VerifyRequest } from './messages.ts';
import { type PreparedEvent, prepareChunk } from './prepare.ts';
import { readBody } from './read-body.ts';
import { screenEvents } from './screen.ts';
import { keyLookup, verifyEvent } from './verify.ts';

type Question = Exclude<ThreadRequest, { type: 'forget' }>;

export class Answers {
  readonly #waiting = new Map<
    number,
    { readonly rules: RoomVersionRules; readonly events: readonly PreparedEvent[] }
  >();

  /** Never throws: what cannot be worked on for a fault of ours is answered so. */
  to(request: Question): ThreadReply {
    try {
      return this.#work(request);
    } catch (error) {
      this.forget(request.chunk);
      const message = error instanceof Error ? error.message : String(error);
      return { type: 'failed', chunk: request.chunk, message };
    }
  }

  forget(chunk: number): void {
    this.#waiting.delete(chunk);
  }

  #work(request: Question): ThreadReply {
    switch (request.type) {
      case 'prepare':
        return this.#prepare(request);
      case 'verify':
        return this.#verify(request);
      case 'read-body':
        return { type: 'body-read', chunk: request.chunk, body: readBody(request.claim, request.body) };
      case 'screen':
        return screenEvents(request);
    }
  }

  #prepare(request: PrepareRequest): ThreadReply {
    const rules = roomVersionRules(request.roomVersion);
    invariant(rules !== undefined, `room version ${request.roomVersion} is not known`);
    const { events, reply } = prepareChunk(request.chunk, request, { ...request, rules });
    this.#waiting.set(request.chunk, { rules, events });
    return reply;
  }

  #verify({ chunk, held, keys }: VerifyRequest): ThreadReply {
    const prepared = this.#waiting.get(chunk);
    invariant(prepared !== undefined, 'a chunk is prepared before it is verified');
    this.#waiting.delete(chunk);
    const findKey = keyLookup(keys);
    const verified = prepared.events.map((event, i) =>
      event.ready && held[i] === 1
        ? { outcome: { outcome: 'skipped', eventId: event.pdu.eventId } as const }
        : verifyEvent(event, prepared.rules, findKey),
    );
    const rewritten = packEvents(verified.map((event) => Buffer.from(event.rewritten ?? '')));
    return { type: 'verified', chunk, outcomes: verified.map(({ outcome }) => outcome), rewritten };
  }
}
