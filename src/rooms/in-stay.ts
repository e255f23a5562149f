/** What the use cases are given for work that belongs to one stay in a room. */
import { type Stay } from '../store/fence.ts';
import { fencedStore } from '../store/open-store.ts';
import { type RoomsContext } from './context.ts';

/** The context with a store that refuses what is written when the stay is over, by `StayOverError`. */
export function inStay<Context extends Pick<RoomsContext, 'store'>>(context: Context, stay: Stay): Context {
  return { ...context, store: fencedStore(context.store, stay) };
}
