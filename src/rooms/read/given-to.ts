/** To whom events are given, as far as what is summed up beside them depends on it. */
import { type GivenTo } from './give-events.ts';
import { type Reader } from './who-may-read.ts';

/** Who has left is told of nothing that came later. */
export function givenTo(who: Pick<GivenTo, 'userId' | 'deviceId' | 'now'>, reader: Reader): GivenTo {
  return reader.may === 'now'
    ? { ...who, upTo: null, joinedSince: reader.isJoined }
    : { ...who, upTo: reader.left.position, joinedSince: true };
}
