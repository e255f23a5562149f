import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { ensureCertificateFiles } from '../../src/launch/certificates.ts';
import { type UserId } from '../../src/matrix/identifiers.ts';
import { joinRoom } from '../../src/rooms/join/join.ts';
import { startTestRejoinder } from '../support/rejoinder.ts';
import { startResident } from '../workflows/resident.ts';

const signal = new AbortController().signal;

test.each([
  ['a resident that leaves no memberships out', { omitsMembers: false, omitMembers: true }],
  ['a classic join', { omitsMembers: true, omitMembers: false }],
])('%s makes a whole room at once, and nothing is left to do', async (_what, { omitsMembers, omitMembers }) => {
  const folder = await mkdtemp(join(tmpdir(), 'rejoinder-full-join-'));
  const certificates = await ensureCertificateFiles(folder, [], systemClock);
  const resident = await startResident(certificates, 5);
  onTestFinished(async () => {
    await resident.stop();
    await rm(folder, { recursive: true, force: true });
  });
  resident.omitsMembers = omitsMembers;
  const { context, reads, rung } = await startTestRejoinder({ certificates });

  const userId = `@me:${context.serverName}` as UserId;
  const { roomId } = resident;
  const joined = await joinRoom(context, { room: roomId, userId, via: [resident.serverName], omitMembers, signal });
  expect(joined).toMatchObject({ partial: false, membersOmitted: false });
  expect(rung).toEqual([]);
  expect(await reads.members(roomId, { waitMs: 0, membership: 'join', signal })).toMatchObject({ ready: true });
  const { resync, membersKnown, journal } = await reads.describeRoom(roomId);
  expect(resync).toMatchObject({ phase: 'complete', members: 6, nextWakeAt: null });
  expect(membersKnown).toBe(6);
  expect(journal.map(({ event }) => event.type)).toEqual(['FullStateJoined']);
});
