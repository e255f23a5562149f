/**
 * Reads of unvalidated event content. Anything may stand in it: a field of the wrong type reads as absent or as the
 * caller's refusal, never as a throw, and names such as `constructor` are only found when the event has them.
 */
import { type Json, type JsonObject } from './pdu.ts';

/** The object's own value at `key`; inherited ones are not content. */
export function ownValue(object: JsonObject, key: string): Json | undefined {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}

/** The object's own value at `key` when it is a string. */
export function ownString(object: JsonObject, key: string): string | undefined {
  const value = ownValue(object, key);
  return typeof value === 'string' ? value : undefined;
}

/** `content.membership` of an m.room.member event when it is a string. */
export function membershipOf(member: { readonly content: JsonObject } | undefined): string | undefined {
  return member === undefined ? undefined : ownString(member.content, 'membership');
}
