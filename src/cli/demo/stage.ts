/** Where the demo plays: a room on other servers, what Rejoinder must be told to reach them, and how they see the room. */
import { type SettingsInput } from '../../config/settings.ts';
import { type CertificateFiles } from '../../launch/certificates.ts';
import { type Environment, type Progress } from '../../launch/progress.ts';
import { type OperatorClient } from '../operator-client.ts';
import { type Shutdown } from '../process/shutdown.ts';
import { type RoomTalk } from './talk.ts';
import { type WatchedJoin } from './timeline.ts';

export interface StageOptions {
  /** Of the demo; a stage makes a folder of its own in it. */
  readonly directory: string;
  /** Rejoinder's own, by an authority that the room's servers are to trust. */
  readonly certificates: CertificateFiles;
  readonly env: Environment;
  readonly progress: Progress;
  /** Takes how what was started is stopped. */
  readonly shutdown: Shutdown;
  readonly stop: AbortSignal;
}

export interface Stage {
  /** One line about the room. */
  readonly title: string;
  /** Alias or id. */
  readonly room: string;
  /** Servers to join by, before those that the alias's server names. */
  readonly via: readonly string[];
  /** What its users say while it is partial here. */
  readonly talk?: RoomTalk;
  /** Added to those of every demo. */
  readonly settings: Partial<SettingsInput>;
  /** Holds what Rejoinder knows of the room against what its servers know. */
  compare(client: OperatorClient, join: WatchedJoin): Promise<Comparison>;
}

export interface Comparison {
  /** What was compared with what, and came out alike; the first line completes "Equal to …". */
  readonly alike: readonly string[];
  /** One line each, the first few; empty when all is equal. */
  readonly differences: readonly string[];
}
