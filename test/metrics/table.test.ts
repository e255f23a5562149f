import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createInstruments } from '../../src/metrics/instruments.ts';

const page = await readFile(join(import.meta.dirname, '../../docs/METRICS.md'), 'utf8');
const { registry } = createInstruments({
  version: 'test',
  role: 'test',
  collectPartialRooms: (gauge) => {
    gauge.set({ phase: 'waiting' }, 1);
    return Promise.resolve();
  },
  collectBacklog: (gauge) => {
    gauge.set(1);
    return Promise.resolve();
  },
  collectLags: (gauge) => {
    gauge.set({ service: 'bridge' }, 1);
    return Promise.resolve();
  },
  collectOpenJoins: (gauge) => gauge.set({ phase: 'waiting' }, 1),
});
const described = registry.getMetricsAsArray() as unknown as readonly {
  readonly name: string;
  readonly labelNames: readonly string[];
}[];

test('the page of the metrics has each of them, with its type and labels, and no other', async () => {
  const rows = [...page.matchAll(/^\| `(rejoinder_\w+)` +\| (\w+) +\| ([^|]*?) *\|/gm)];
  const onPage = rows.map(([, name, type, labels = '']) => [
    name,
    type,
    [...labels.matchAll(/`(\w+)`/g)].map(([, label]) => label),
  ]);
  const types = new Map((await registry.getMetricsAsJSON()).map(({ name, type }) => [name, type]));
  expect(onPage).toEqual(described.map(({ name, labelNames }) => [name, types.get(name), [...labelNames]]));
});

test('every value that a label starts with is on the page', async () => {
  const values = (await registry.getMetricsAsJSON()).flatMap(({ values }) =>
    values.flatMap(({ labels }) =>
      Object.entries(labels).filter(([name]) => ['activity', 'outcome', 'endpoint', 'phase'].includes(name)),
    ),
  );
  expect(values.length).toBeGreaterThan(50);
  expect(values.filter(([, value]) => !page.includes(`\`${String(value)}\``))).toEqual([]);
});

test('counters end in _total, times are in seconds, and a label is never a name that a stranger chooses', async () => {
  const metrics = await registry.getMetricsAsJSON();
  for (const { name, type } of metrics) {
    expect(name).toMatch(/^rejoinder_[a-z_]+$/);
    expect([name, name.endsWith('_total')]).toEqual([name, String(type) === 'counter']);
    const isTime = String(type) === 'histogram' || name.endsWith('_age_seconds');
    expect([name, name.endsWith('_seconds')]).toEqual([name, isTime]);
  }
  const labels = new Set(described.flatMap(({ labelNames }) => labelNames));
  expect([...labels].sort()).toEqual([
    'activity',
    'endpoint',
    'found',
    'outcome',
    'phase',
    'role',
    'service',
    'version',
  ]);
});
