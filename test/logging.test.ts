import { describe, expect, test } from 'vitest';
import { createLogger } from '../src/logging.ts';

function capture(): { lines: string[]; write: (line: string) => void } {
  const lines: string[] = [];
  return { lines, write: (line) => void lines.push(line) };
}

describe('the log', () => {
  test('is one JSON object a line, whatever a stranger called the room', () => {
    const destination = capture();
    createLogger({ level: 'info', destination }).info({ room: 'evil\n{"level":"fatal"}' }, 'joined\r\nroot logged in');
    expect(destination.lines).toHaveLength(1);
    const line = destination.lines[0]!;
    expect(line.indexOf('\n')).toBe(line.length - 1);
    expect(JSON.parse(line)).toMatchObject({ level: 'info', room: 'evil\n{"level":"fatal"}' });
  });

  test('holds no credentials', () => {
    const destination = capture();
    const logger = createLogger({ level: 'info', destination });
    logger.info({
      token: 'hunter2',
      headers: { authorization: 'Bearer hunter2' },
      req: { headers: { authorization: 'hunter2' } },
    });
    logger.error({ err: new Error('cannot reach postgres://me:hunter2@db/x') }, 'database');
    expect(destination.lines.join('')).not.toContain('hunter2');
    expect(destination.lines[1]).toContain('postgres://********@db/x');
  });

  test('says nothing below its level', () => {
    const destination = capture();
    createLogger({ level: 'warn', destination }).info('quiet');
    expect(destination.lines).toEqual([]);
  });
});
