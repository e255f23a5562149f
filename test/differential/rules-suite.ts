/** Auth rules and state resolution as a suite of the differential tests. */
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { parseJson } from '../../src/matrix/json/strict-json.ts';
import { type Answer, type Suite } from './differ.ts';
import { MalformedCase, type ResolveRequest, type RulesRequest, ourAnswer } from './rules-answers.ts';
import { casesOfRoom } from './rules-cases.ts';

export const RULES_SUITE: Suite<RulesRequest> = {
  name: 'auth rules and state resolution',
  cases: (random) => casesOfRoom(random),
  ours(line) {
    const parsed = parseJson(line);
    if (!parsed.ok) return { undecided: parsed.reason };
    try {
      return ourAnswer(parsed.value as unknown as RulesRequest);
    } catch (error) {
      if (error instanceof MalformedCase) return { undecided: error.message };
      throw error;
    }
  },
  theirs: oracleAnswer,
  *smaller(request) {
    if (request.op === 'resolve') yield* smallerResolutions(request);
    else for (const auth_events of without(request.auth_events)) yield { ...request, auth_events };
  },
};

function oracleAnswer(answer: JsonObject): Answer {
  if (typeof answer['allowed'] === 'boolean') return { answer: answer['allowed'] ? 'allowed' : 'refused', kind: '' };
  if (Array.isArray(answer['state'])) return { answer: answer['state'].join(), kind: '' };
  return { undecided: JSON.stringify(answer['error']) };
}

function* without<T>(items: readonly T[]): Generator<readonly T[]> {
  for (const index of items.keys()) yield items.filter((_, at) => at !== index);
}

function* smallerResolutions(request: ResolveRequest): Generator<ResolveRequest> {
  const sets = request.state_sets;
  if (sets.length > 2) for (const state_sets of without(sets)) yield { ...request, state_sets };
  for (const id of new Set(sets.flat())) {
    yield { ...request, state_sets: sets.map((ids) => ids.filter((other) => other !== id)) };
  }
  for (const [index, ids] of sets.entries()) {
    for (const fewer of without(ids)) yield { ...request, state_sets: sets.with(index, fewer) };
  }
  for (const rejected of without(request.rejected)) yield { ...request, rejected };
  for (const events of without(request.events)) yield { ...request, events };
}
