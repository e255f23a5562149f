import { describe, expect, test } from 'vitest';
import {
  FederationError,
  errorOfAnswer,
  isRefusal,
  kindOfNetworkError,
  kindOfStatus,
  parseRetryAfter,
} from '../../src/federation/error.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';

const remote = 'remote.test' as ServerName;
const NOW = Date.UTC(2026, 0, 1);

describe('what a failure means', () => {
  test.each([
    [403, 'M_FORBIDDEN', 'forbidden'],
    [401, 'M_UNAUTHORIZED', 'forbidden'],
    [403, 'ORG.MATRIX.MSC3895_UNABLE_DUE_TO_PARTIAL_STATE', 'partial-state-there'],
    [403, 'M_UNABLE_DUE_TO_PARTIAL_STATE', 'partial-state-there'],
    [404, 'M_NOT_FOUND', 'not-found'],
    [404, 'M_UNRECOGNIZED', 'not-found'],
    [429, 'M_LIMIT_EXCEEDED', 'rate-limited'],
    [400, 'M_LIMIT_EXCEEDED', 'rate-limited'],
    [400, 'M_FORBIDDEN', 'forbidden'],
    [400, 'M_UNABLE_TO_AUTHORISE_JOIN', 'refused'],
    [400, 'M_UNABLE_TO_GRANT_JOIN', 'refused'],
    [400, undefined, 'refused'],
    [422, undefined, 'refused'],
    [400, 'M_INCOMPATIBLE_ROOM_VERSION', 'incompatible-version'],
    [403, 'M_INCOMPATIBLE_ROOM_VERSION', 'incompatible-version'],
    [500, undefined, 'server-error'],
    [502, undefined, 'server-error'],
    [504, undefined, 'timeout'],
    [302, undefined, 'malformed'],
    [204, undefined, 'malformed'],
  ])('status %i with %s is %s', (status, errcode, kind) => {
    expect(kindOfStatus(status, errcode)).toBe(kind);
  });

  test.each([
    [403, 'M_FORBIDDEN', true],
    [404, 'M_NOT_FOUND', true],
    [400, 'M_INCOMPATIBLE_ROOM_VERSION', true],
    [400, 'M_UNABLE_TO_GRANT_JOIN', true],
    [403, undefined, false],
    [404, undefined, false],
    [410, undefined, false],
    [404, 'M_UNRECOGNIZED', false],
    [401, 'M_UNAUTHORIZED', false],
    [429, 'M_LIMIT_EXCEEDED', false],
    [500, 'M_UNKNOWN', false],
  ])('status %i with %s is a refusal: %s', (status, errcode, expected) => {
    expect(isRefusal(errorOfAnswer(remote, 'PUT /x', status, { errcode }, undefined, NOW))).toBe(expected);
  });

  test.each([
    ['ECONNREFUSED', 'unreachable'],
    ['ENOTFOUND', 'unreachable'],
    ['CERT_HAS_EXPIRED', 'unreachable'],
    ['ECONNRESET', 'unreachable'],
    ['UND_ERR_CONNECT_TIMEOUT', 'timeout'],
    ['UND_ERR_HEADERS_TIMEOUT', 'timeout'],
    ['UND_ERR_BODY_TIMEOUT', 'timeout'],
    ['HPE_INVALID_CONSTANT', 'malformed'],
    ['UND_ERR_HEADERS_OVERFLOW', 'malformed'],
  ])('network error %s is %s', (code, kind) => {
    expect(kindOfNetworkError(Object.assign(new Error('x'), { code }))).toBe(kind);
  });

  test.each([
    ['seconds', '120', undefined, 120_000],
    ['a date', new Date(NOW + 5000).toUTCString(), undefined, 5000],
    ['a past date', new Date(NOW - 5000).toUTCString(), undefined, undefined],
    ['the body when there is no header', undefined, 1500, 1500],
    ['the body when the header is rubbish', 'soon', 1500, 1500],
    ['more than a day', '99999999', undefined, 86_400_000],
    ['a negative number', '-5', undefined, undefined],
    ['infinity', undefined, Infinity, undefined],
    ['a string in the body', undefined, '100', undefined],
    ['rubbish', '1e9', undefined, undefined],
  ])('Retry-After by %s', (_what, header, body, expected) => {
    expect(parseRetryAfter(header, body, NOW)).toBe(expected);
  });

  test('an answer is told in one line, whatever it says', () => {
    const body = { errcode: 'M_FORBIDDEN', error: 'no\nway\r\u001b[31m\u2028\u202e ' + 'x'.repeat(1000) };
    const error = errorOfAnswer(remote, 'GET /x', 403, body, undefined, NOW);
    expect(error.message).toMatch(/^remote\.test: GET \/x answered 403 M_FORBIDDEN: no way \[31m x+…$/);
    expect(error.message.length).toBeLessThan(320);
    expect(error).toMatchObject({ kind: 'forbidden', status: 403, errcode: 'M_FORBIDDEN' });
  });

  test('a room version that was not offered is named', () => {
    const body = { errcode: 'M_INCOMPATIBLE_ROOM_VERSION', error: 'said so', room_version: 'org.example.99' };
    const error = errorOfAnswer(remote, 'GET /x', 400, body, undefined, NOW);
    expect(error).toMatchObject({ kind: 'incompatible-version', errcode: 'M_INCOMPATIBLE_ROOM_VERSION' });
    expect(error.message).toContain('(room version org.example.99): said so');
    const rubbish = errorOfAnswer(remote, 'GET /x', 400, { ...body, room_version: [] }, undefined, NOW);
    expect(rubbish.message).toContain('M_INCOMPATIBLE_ROOM_VERSION: said so');
  });

  test('an errcode that is no token is forgotten', () => {
    const error = errorOfAnswer(remote, 'GET /x', 400, { errcode: 'M_X\ninjected' }, undefined, NOW);
    expect(error.errcode).toBeUndefined();
    expect(errorOfAnswer(remote, 'GET /x', 500, [1], undefined, NOW)).toBeInstanceOf(FederationError);
  });
});
