import { describe, expect, test } from 'vitest';
import { fairness } from '../../../scripts/bench/rooms-run.ts';
import { quantile, spreadOf, tableLines } from '../../../scripts/bench/table.ts';

describe('figures of several runs', () => {
  test('are values that were measured, never made up between two', () => {
    expect(spreadOf([3, 1, 2])).toEqual({ min: 1, median: 2, max: 3 });
    expect(spreadOf([4, 1])).toEqual({ min: 1, median: 4, max: 4 });
    expect(quantile([5, 4, 3, 2, 1], 0.95)).toBe(5);
    expect(quantile([], 0.5)).toBeNaN();
  });

  test('stand in columns, the first to the left and numbers to the right', () => {
    expect(
      tableLines(
        ['name', 'n'],
        [
          ['a', '1'],
          ['long name', '1000'],
        ],
      ),
    ).toEqual(['  name          n', '  a             1', '  long name  1000']);
  });

  test('have a fairness of 1 when all are the same and 1/n when one has everything', () => {
    expect(fairness([2, 2, 2, 2])).toBe(1);
    expect(fairness([7, 0, 0, 0])).toBe(0.25);
  });
});
