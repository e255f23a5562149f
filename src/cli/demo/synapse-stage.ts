/** The demo before a real Synapse on this machine, with a room full of its own users. */
import { join } from 'node:path';
import { freePort } from '../../launch/ports.ts';
import { launchSynapse } from '../../launch/synapse.ts';
import { createPopulatedRoom } from '../../launch/synapse-room.ts';
import { humanCount } from '../output.ts';
import { compareWithSynapse } from './compare-with-synapse.ts';
import { type SynapseRoomPlan } from './plan.ts';
import { type Stage, type StageOptions } from './stage.ts';

/** What Synapse makes rooms of by default since 2024. */
const ROOM_VERSION = '11';

/** Throws `LaunchError`, or the reason of `stop`. */
export async function openSynapseStage(plan: SynapseRoomPlan, options: StageOptions): Promise<Stage> {
  const { directory, certificates, env, progress, shutdown, stop } = options;
  const { members } = plan;
  const federationPort = await freePort();
  const serverName = `localhost:${federationPort}`;
  const synapse = await launchSynapse({
    serverName,
    directory: join(directory, 'synapse'),
    certificates,
    federationPort,
    env,
    progress,
  });
  shutdown.add('Synapse', () => synapse.stop());
  progress(`Synapse: started as ${serverName}; ${members} users join its room`);
  stop.throwIfAborted();
  const room = await createPopulatedRoom({
    synapse,
    members,
    roomVersion: ROOM_VERSION,
    aliasLocalpart: 'demo',
    progress,
  });
  progress(`Synapse: ${room.alias} has ${room.joined.length} members`);
  stop.throwIfAborted();
  return {
    title: `A room of ${humanCount(room.joined.length)} members on Synapse at ${serverName}`,
    room: room.alias,
    via: [],
    settings: {
      // One authority for both; nothing outside is asked.
      federation: { custom_ca_path: certificates.authorityFile, allowed_ip_ranges: ['127.0.0.0/8', '::1/128'] },
      trusted_key_servers: [],
    },
    compare: (client, { roomId, members: ours }) => compareWithSynapse(client, roomId, ours, room.owner),
  };
}
