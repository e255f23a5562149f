/** The demo's resident: a real Synapse on this machine, with a room full of its own users. */
import { join } from 'node:path';
import { type CertificateFiles } from '../../launch/certificates.ts';
import { type Environment, type Progress } from '../../launch/progress.ts';
import { launchSynapse } from '../../launch/synapse.ts';
import { type SynapseRoom, createPopulatedRoom } from '../../launch/synapse-room.ts';
import { type Shutdown } from '../process/shutdown.ts';

/** What Synapse makes rooms of by default since 2024. */
const ROOM_VERSION = '11';

export interface ResidentOptions {
  /** Of the demo; Synapse gets a folder in it. */
  readonly directory: string;
  readonly federationPort: number;
  readonly certificates: CertificateFiles;
  readonly members: number;
  readonly env: Environment;
  readonly progress: Progress;
  readonly shutdown: Shutdown;
  readonly stop: AbortSignal;
}

export interface Resident {
  readonly serverName: string;
  readonly room: SynapseRoom;
}

/** Throws `LaunchError`, or the reason of `stop`. */
export async function startResident(options: ResidentOptions): Promise<Resident> {
  const { directory, federationPort, certificates, members, env, progress, shutdown, stop } = options;
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
  return { serverName, room };
}
