/** What sending is given: it decides nothing about rooms, and reads what is owed. */
import { type RoomsContext } from '../rooms/context.ts';

export type SendingContext = Pick<
  RoomsContext,
  'serverName' | 'store' | 'federation' | 'clock' | 'random' | 'logger' | 'ring'
>;
