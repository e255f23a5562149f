/** What the use cases on devices are given; nothing ambient. */
import { type RoomsContext } from '../rooms/context.ts';

export interface DevicesContext extends Pick<
  RoomsContext,
  'serverName' | 'store' | 'federation' | 'clock' | 'random' | 'logger' | 'ring'
> {
  /** Told when there is something for other servers. */
  readonly onSaid: () => void;
}
