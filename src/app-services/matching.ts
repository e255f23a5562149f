/**
 * Which ids are in whose namespaces. What was matched is remembered, for all services together, so that an id that comes again costs one
 * look, however many expressions there are.
 */
import { LRUCache } from 'lru-cache';
import { type AppService, type NamespaceKind, matchOf } from './registration.ts';

/** Of users, of aliases and of rooms, each. */
const REMEMBERED_MAX = 50_000;

interface Match {
  readonly serviceId: string;
  readonly isExclusive: boolean;
}

/** What most ids have; shared, so that remembering it takes no memory. */
const NOBODY: readonly Match[] = [];

export interface Matching {
  isIn(serviceId: string, kind: NamespaceKind, id: string): boolean;
  /** Whether a service has reserved the id, and it is not `by`. */
  isTaken(kind: NamespaceKind, id: string, by?: string): boolean;
}

/** One for a process: registrations do not change while it runs. */
export function createMatching(services: readonly AppService[]): Matching {
  const remembered: Readonly<Record<NamespaceKind, LRUCache<string, readonly Match[]>>> = {
    users: new LRUCache({ max: REMEMBERED_MAX }),
    aliases: new LRUCache({ max: REMEMBERED_MAX }),
    rooms: new LRUCache({ max: REMEMBERED_MAX }),
  };
  const matchesOf = (kind: NamespaceKind, id: string): readonly Match[] => {
    const known = remembered[kind].get(id);
    if (known !== undefined) return known;
    const found = services.flatMap((service) => {
      const match = matchOf(service, kind, id);
      return match === null ? [] : [{ serviceId: service.id, isExclusive: match === 'exclusive' }];
    });
    const matches = found.length === 0 ? NOBODY : found;
    remembered[kind].set(id, matches);
    return matches;
  };
  return {
    isIn: (serviceId, kind, id) => matchesOf(kind, id).some((match) => match.serviceId === serviceId),
    isTaken: (kind, id, by) => matchesOf(kind, id).some((match) => match.isExclusive && match.serviceId !== by),
  };
}
