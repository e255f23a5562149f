/**
 * What simulated servers say about their keys, as themselves and as notaries. A signature takes longer than all else about
 * such an answer, and 1,300 servers sign in a batch of notary queries: answers are kept for an hour.
 */
import { type Clock } from '../clock.ts';
import { makeKeyAnswer } from '../federation/key-answer.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { signJson } from '../matrix/signing/signatures.ts';
import { type ServerKeys } from './server-keys.ts';

/** The longest that servers believe a key to be valid. */
const VALID_MS = 7 * 86_400_000;
const KEPT_MS = 3_600_000;

export interface KeyAnswers {
  /** The server's signed key object, as JSON text. */
  of(serverName: ServerName): string;
  /** The same, signed by the notary too. */
  vouchedFor(serverName: ServerName, notary: ServerName): string;
}

/** Answers about keys, made when first asked for and kept for a while. */
export function createKeyAnswers(keys: ServerKeys, clock: Clock): KeyAnswers {
  const own = new Map<ServerName, JsonObject>();
  const texts = new Map<string, string>();
  let signedAt = clock.now();

  const forgetOld = (): void => {
    const now = clock.now();
    if (Math.abs(now - signedAt) < KEPT_MS) return;
    signedAt = now;
    own.clear();
    texts.clear();
  };
  const answerOf = (serverName: ServerName): JsonObject => {
    let answer = own.get(serverName);
    if (answer === undefined) {
      answer = makeKeyAnswer(serverName, keys.of(serverName), signedAt + VALID_MS);
      own.set(serverName, answer);
    }
    return answer;
  };
  const kept = (name: string, make: () => JsonObject): string => {
    let text = texts.get(name);
    if (text === undefined) {
      text = JSON.stringify(make());
      texts.set(name, text);
    }
    return text;
  };
  return {
    of(serverName) {
      forgetOld();
      return kept(serverName, () => answerOf(serverName));
    },
    vouchedFor(serverName, notary) {
      forgetOld();
      // Its own signature vouches for itself.
      if (serverName === notary) return kept(serverName, () => answerOf(serverName));
      return kept(`${serverName} ${notary}`, () => signJson(answerOf(serverName), notary, keys.of(notary)));
    },
  };
}
