import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { createPopulatedRoom } from '../../src/launch/synapse-room.ts';
import { type EventId, type RoomAlias, type UserId } from '../../src/matrix/identifiers.ts';
import { joinRoom } from '../../src/rooms/join/join.ts';
import { changeMembership } from '../../src/rooms/send/change-membership.ts';
import { sendEvent } from '../../src/rooms/send/send-event.ts';
import { startSending } from '../../src/sending/sending.ts';
import { readEventStates } from '../../src/store/events/event-states.ts';
import { startTestRejoinder } from '../support/rejoinder.ts';
import { type TestSynapse, startTestSynapse, whySynapseIsMissing } from '../support/synapse.ts';

const missing = await whySynapseIsMissing();
const signal = new AbortController().signal;
const soon = { timeout: 20_000, interval: 100 };

describe.skipIf(missing !== undefined)('members of a room of a real Synapse and ours', () => {
  let synapse: TestSynapse;
  beforeAll(async () => {
    synapse = await startTestSynapse();
  });
  afterAll(() => synapse.stop());

  test.each(['1', '11', '12'])(
    'talk both ways while the room is partial and after, in version %s',
    async (roomVersion) => {
      const aliasLocalpart = `talk${roomVersion}`;
      const room = await createPopulatedRoom({
        ...{ synapse, members: 6, roomVersion, aliasLocalpart },
        progress: () => undefined,
      });
      const { context, resync } = await startTestRejoinder(synapse);
      // Names in versions 1 and 2 are drawn.
      const speaking = { ...context, random: Math.random };
      const sending = startSending(context);
      onTestFinished(() => sending.close());
      const sender = `@me:${context.serverName}` as UserId;
      const { roomId } = await joinRoom(context, { room: room.alias as RoomAlias, userId: sender, via: [], signal });

      const weSay = async (body: string): Promise<void> => {
        const content = { msgtype: 'm.text', body };
        const eventId = await sendEvent(speaking, roomId, { sender, type: 'm.room.message', content });
        sending.poke();
        const path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/event/${encodeURIComponent(eventId)}`;
        await vi.waitFor(async () => {
          expect(await room.owner.call('GET', path)).toMatchObject({ sender, content });
        }, soon);
      };
      const theySay = async (body: string): Promise<void> => {
        const eventId = (await room.owner.sendMessage(roomId, body)) as EventId;
        await vi.waitFor(async () => {
          const states = await readEventStates(context.store, roomId, [eventId]);
          expect(states.get(eventId)).toMatchObject({ verdict: 'accepted', softFailed: false });
        }, soon);
      };
      await weSay('while partial');
      await theySay('and back');
      await weSay('on top of that');
      expect(await resync(roomId)).toBe('complete');
      await weSay('when whole');
      await theySay('and back again');

      await changeMembership(speaking, { roomId, sender, act: 'leave', userId: sender });
      sending.poke();
      await vi.waitFor(async () => {
        const state = await room.owner.state(roomId);
        const member = state.find((event) => event.type === 'm.room.member' && event.state_key === sender);
        expect(member?.content).toMatchObject({ membership: 'leave' });
      }, soon);
    },
    90_000,
  );
});
