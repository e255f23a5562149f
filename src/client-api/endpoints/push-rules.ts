/**
 * Push rules.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#push-rules-api
 */
import { z } from 'zod';
import { MatrixError } from '../../http/matrix-error.ts';
import { PUSH_RULE_KINDS, type PushRule, type PushRuleKind } from '../../matrix/client/default-push-rules.ts';
import {
  type Place,
  areActions,
  areConditions,
  pushRuleAnswer,
  pushRulesAnswer,
  withRule,
  withRuleChanged,
  withoutRule,
} from '../../matrix/client/push-rules.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type UserRequest, bodyOf, queryText, readBody } from '../client-request.ts';
import { type ClientContext, type UserEndpoint } from '../context.ts';
import { R0_AND_V3, inForms } from '../paths.ts';

const RULE = '/pushrules/global/:kind/:ruleId';

export const PUSH_RULE_ENDPOINTS: readonly UserEndpoint[] = (
  [
    {
      method: 'GET',
      path: '/pushrules/',
      answer: async ({ requester }, { accounts }) => pushRulesAnswer(await accounts.pushRules(requester.userId)),
    },
    {
      method: 'GET',
      path: '/pushrules/global/',
      answer: async ({ requester }, { accounts }) =>
        pushRulesAnswer(await accounts.pushRules(requester.userId))['global'],
    },
    { method: 'GET', path: RULE, answer: async (request, context) => pushRuleAnswer(await find(request, context)) },
    { method: 'PUT', path: RULE, answer: put },
    {
      method: 'DELETE',
      path: RULE,
      answer: async ({ params, requester }, { accounts }) => {
        const kind = kindOf(params['kind']);
        await accounts.changePushRules(requester.userId, (rules) => withoutRule(rules, kind, params['ruleId'] ?? ''));
        return {};
      },
    },
    {
      method: 'GET',
      path: `${RULE}/enabled`,
      answer: async (request, context) => ({ enabled: (await find(request, context)).isEnabled }),
    },
    {
      method: 'PUT',
      path: `${RULE}/enabled`,
      answer: (request, context) => {
        const { enabled } = readBody(request, z.object({ enabled: z.boolean({ error: 'true or false' }) }));
        return change(request, context, { isEnabled: enabled });
      },
    },
    {
      method: 'GET',
      path: `${RULE}/actions`,
      answer: async (request, context) => ({ actions: (await find(request, context)).actions }),
    },
    {
      method: 'PUT',
      path: `${RULE}/actions`,
      answer: (request, context) => change(request, context, { actions: actionsOf(bodyOf(request)) }),
    },
  ] satisfies UserEndpoint[]
).flatMap((endpoint: UserEndpoint) => inForms(R0_AND_V3, endpoint));

async function find({ params, requester }: UserRequest, { accounts }: ClientContext): Promise<PushRule> {
  const rules = (await accounts.pushRules(requester.userId))[kindOf(params['kind'])];
  const rule = rules.find(({ ruleId }) => ruleId === params['ruleId']);
  if (rule === undefined) throw new MatrixError(404, 'M_NOT_FOUND', 'there is no such push rule');
  return rule;
}

async function change(
  { params, requester: { userId } }: UserRequest,
  { accounts }: ClientContext,
  changed: Parameters<typeof withRuleChanged>[4],
): Promise<JsonObject> {
  const kind = kindOf(params['kind']);
  await accounts.changePushRules(userId, (rules) =>
    withRuleChanged(rules, userId, kind, params['ruleId'] ?? '', changed),
  );
  return {};
}

async function put(request: UserRequest, { accounts }: ClientContext): Promise<JsonObject> {
  const kind = kindOf(request.params['kind']);
  const ruleId = request.params['ruleId'] ?? '';
  if (ruleId === '' || ruleId.startsWith('.') || /[/\\\u0000]/.test(ruleId)) {
    throw new MatrixError(400, 'M_INVALID_PARAM', 'the id of a push rule begins with no dot and holds no slash');
  }
  const rule = { ruleId, ...readRule(kind, bodyOf(request)) };
  const place = placeOf(request);
  await accounts.changePushRules(request.requester.userId, (rules) => withRule(rules, kind, rule, place));
  return {};
}

function readRule(kind: PushRuleKind, body: JsonObject): Omit<PushRule, 'ruleId' | 'isEnabled'> {
  const actions = actionsOf(body);
  const { conditions = [], pattern } = body;
  if (kind === 'content') {
    if (typeof pattern === 'string') return { actions, pattern };
    const errcode = pattern === undefined ? 'M_MISSING_PARAM' : 'M_BAD_JSON';
    throw new MatrixError(400, errcode, 'pattern: expected a string');
  }
  if (kind === 'room' || kind === 'sender') return { actions };
  if (!areConditions(conditions)) throw new MatrixError(400, 'M_BAD_JSON', 'conditions: expected a list of conditions');
  return { actions, conditions };
}

function actionsOf({ actions }: JsonObject): PushRule['actions'] {
  if (areActions(actions)) return actions;
  const errcode = actions === undefined ? 'M_MISSING_PARAM' : 'M_BAD_JSON';
  throw new MatrixError(400, errcode, 'actions: expected a list of actions');
}

function placeOf(request: UserRequest): Place {
  const [before, after] = [queryText(request, 'before'), queryText(request, 'after')];
  if (before !== undefined && after !== undefined) {
    throw new MatrixError(400, 'M_INVALID_PARAM', 'before and after: expected one of them');
  }
  if (before !== undefined) return { before };
  return after === undefined ? undefined : { after };
}

function kindOf(kind: string | undefined): PushRuleKind {
  const found = PUSH_RULE_KINDS.find((name) => name === kind);
  if (found === undefined) {
    throw new MatrixError(400, 'M_INVALID_PARAM', `kind: expected one of ${PUSH_RULE_KINDS.join(', ')}`);
  }
  return found;
}
